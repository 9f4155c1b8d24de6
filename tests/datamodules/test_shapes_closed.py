import numpy as np
import pytest
import torch

from datamodules.memory import pixel_hashes
from datamodules.shapes import Shapes
from datamodules.worlds import patterns, shapes

SIZES = {"train_size": 160, "val_size": 40, "moments_size": 48, "test_size": 80, "unused_size": 60, "batch_size": 16}


def small(**options):
    return Shapes(**SIZES | {"num_classes": 8} | options)


def test_sizes_are_those_of_the_page():
    data = Shapes()
    assert [len(data.source(name)) for name in ("moments", "test")] == [6000, 4000]
    assert 16000 <= data.sizes["fit"] <= 20000


def test_classes_are_nested_and_told_by_the_split_seed():
    few, many = small(), small(num_classes=64)
    assert np.array_equal(few.order, many.order)
    assert few.class_names() == many.class_names()[:8]
    assert sorted(few.order) == list(range(256))
    assert not np.array_equal(few.order, small(split_seed=1).order)
    assert np.array_equal(few.order, small(seed=3).order)


@pytest.mark.parametrize("world", ["shapes", "patterns"])
def test_splits_are_balanced_and_share_no_image(world):
    data = small(world=world, num_new=4)
    assert data.test_names == ["moments", "test", "new_fit", "new_test", "unused"]
    for name in ("fit", "val", "moments", "test"):
        assert np.bincount(data.source(name).labels).tolist() == [data.sizes[name] // 8] * 8
    # New classes have as many training images each as the others.
    assert np.bincount(data.source("new_fit").labels)[8:].tolist() == [20] * 4
    assert set(data.source("new_test").labels) == set(range(8, 12))
    assert set(data.source("unused").labels) == set(range(12, 12 + 60))
    hashes = np.concatenate([pixel_hashes(data.source(name).pixels) for name in ("fit", "val", *data.test_names)])
    assert len(np.unique(hashes)) == len(hashes)
    same, other = small(world=world, num_new=4), small(world=world, num_new=4, seed=1)
    assert data.fingerprint() == same.fingerprint() != other.fingerprint()
    assert not np.array_equal(data.source("fit").pixels, other.source("fit").pixels)


def test_the_fingerprint_follows_what_changes_the_images():
    first = small().fingerprint()
    for options in ({"noise": 0.1}, {"spread": 0.5}, {"world": "patterns"}, {"num_classes": 9}, {"moments_size": 40}):
        assert small(**options).fingerprint() != first


def test_shared_attributes_are_those_of_the_world():
    data = small(num_new=3)
    shared = data.shared_attributes()
    assert shared.shape == (11, 11)
    assert (np.diag(shared) == 3).all()
    for i, j in ((0, 1), (2, 9), (10, 4)):
        assert shared[i, j] == shapes.shared(int(data.order[i]), int(data.order[j]))
    # Of all pairs of different classes, 0.49 attributes are shared.
    everything = Shapes(num_classes=256).shared_attributes()
    assert (everything.sum() - 3 * 256) / (256 * 255) == pytest.approx(0.49, abs=0.01)
    assert small(world="patterns").shared_attributes() is None


def test_with_all_classes_none_are_unused():
    data = Shapes(num_classes=256, **SIZES | {"train_size": 512})
    assert data.test_names == ["moments", "test"]
    with pytest.raises(ValueError, match="no class is left for unused"):
        data.source("unused")


def test_batches_are_like_the_fake_one_and_in_order():
    data = small()
    true, fake = next(iter(data.train_dataloader())), data.fake_batch(16)
    assert {key: (value.shape, value.dtype) for key, value in fake.items()} == {
        key: (value.shape, value.dtype) for key, value in true.items()
    }
    loaders = data.test_dataloader()
    assert torch.cat([batch["index"] for batch in loaders[0]]).tolist() == list(range(48))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_classes": 1}, "data.num_classes is 1"),
        ({"num_classes": 200, "num_new": 57}, "data.num_new is 57"),
        ({"world": "faces"}, "should be shapes or patterns"),
        ({"train_size": 7}, "each of 8 classes needs a training image"),
        ({"moments_size": 0}, "data.moments_size is 0"),
        ({"noise": -1.0}, "data.noise"),
        ({"spread": 1.5}, "data.spread is 1.5"),
    ],
)
def test_bad_values_are_one_line(options, said):
    with pytest.raises(ValueError, match=said) as error:
        small(**options)
    assert "\n" not in str(error.value)


def test_noise_and_spread_of_the_shapes_leave_its_default_as_it_was():
    labels = np.arange(300) % 256
    plain = shapes.render(labels, 2)
    assert np.array_equal(plain, shapes.render(labels, 2, noise=0.25, spread=1.0))
    still = shapes.render([0] * 64, 2, noise=0.0, spread=0.0).astype(int)
    # Without spread, only the stripes' phase differs: the ground is the same in all.
    assert (still[:, :, 0, 0] == still[0, :, 0, 0]).all()
    assert shapes.render(labels, 2, noise=0.0).std() < plain.std()


def test_patterns_are_functions_of_their_arguments():
    labels = np.arange(600) % 300
    images = patterns.render(labels, 3)
    assert images.shape == (600, 3, 16, 16)
    assert images.dtype == np.uint8
    assert np.array_equal(images, patterns.render(labels, 3))
    assert np.array_equal(images[:257], patterns.render(labels[:257], 3))
    for other in (patterns.render(labels, 4), patterns.render(labels, 3, world_seed=1)):
        assert not np.array_equal(images, other)
    mixed = np.where(np.arange(600) % 7 == 3, labels, 5)
    assert np.array_equal(patterns.render(mixed, 3)[3::7], images[3::7])
    with pytest.raises(ValueError, match="there is no class -1"):
        patterns.waves(-1)


def test_patterns_are_smooth_and_differ_between_classes():
    images = patterns.render(np.arange(64), 0, 32, noise=0.0).astype(float) / 255
    down = np.abs(np.diff(images, axis=2)).mean()
    assert down < 0.25 * images.std(axis=(2, 3)).mean()
    of_class = [patterns.render([label] * 200, 1).mean(axis=0).ravel() for label in range(32)]
    assert np.abs(np.corrcoef(of_class) - np.eye(32)).mean() < 0.5
