import numpy as np
import pytest

from datamodules.memory import pixel_hashes
from datamodules.scenes import Scenes
from datamodules.worlds import scenes


def small(**options):
    return Scenes(**{"train_size": 40, "val_size": 12, "test_size": 20, "batch_size": 8, "image_size": 32} | options)


def test_sizes_are_those_of_the_scaled_down_experiment():
    # dvdp §3.1.
    data = Scenes()
    assert [data.sizes[name] for name in ("fit", "test")] == [3000, 1000]
    assert data.image_shape == (1, 64, 64)


def test_splits_share_no_image_and_depend_on_the_world_seed_alone():
    data = small()
    pixels = [data.source(name).pixels for name in ("fit", "val", "test")]
    hashes = np.concatenate([pixel_hashes(of) for of in pixels])
    assert len(np.unique(hashes)) == len(hashes) == 72
    assert np.array_equal(small(seed=5).source("test").pixels, pixels[2])
    assert not np.array_equal(small(world_seed=1).source("test").pixels, pixels[2])
    assert small(seed=5).fingerprint() == data.fingerprint() != small(world_seed=1).fingerprint()


def test_a_scene_depends_on_seed_and_place_alone():
    many, few = scenes.render(300, 3, 32), scenes.render(5, 3, 32)
    assert np.array_equal(many.images[:5], few.images)
    assert np.array_equal(many.labels[:5], few.labels)


def test_a_scene_is_the_same_at_every_size():
    fine, small_one = scenes.render(50, 4, 64), scenes.render(50, 4, 32)
    assert np.array_equal(fine.labels, small_one.labels)
    pooled = fine.images.reshape(50, 1, 32, 2, 32, 2).mean((3, 5))
    assert np.abs(pooled - small_one.images).mean() < 3


def test_labels_are_what_is_there():
    found = scenes.render(2000, 5, 32)
    sizes = list(scenes.LABELS.values())
    assert found.labels.shape == (2000, 4)
    for column, size in zip(found.labels.T, sizes, strict=True):
        assert set(column) == set(range(size))
    # No more ellipses than shapes.
    assert (found.labels[:, 1] <= found.labels[:, 0] + 1).all()
    batch = small().source("fit").fetch([0, 1, 2])
    assert batch["labels"].shape == (3, 4)
    assert batch["image"].min() >= -1
    assert batch["image"].max() <= 1
    assert small().fake_batch(3)["labels"].shape == (3, 4)


def test_empty_splits_are_refused():
    for key, value in (("test_size", 0), ("image_size", 4)):
        with pytest.raises(ValueError, match=rf"data\.{key} is {value}"):
            small(**{key: value})
