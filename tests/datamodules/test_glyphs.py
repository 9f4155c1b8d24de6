import numpy as np
import pytest
import torch

from datamodules.glyphs import Glyphs
from datamodules.memory import pixel_hashes
from datamodules.worlds import glyphs

SPLITS = ("fit", "val", "test")


def small(**options):
    return Glyphs(**{"num_classes": 8, "train_size": 160, "val_size": 40, "test_size": 80, "batch_size": 16} | options)


def test_rendering_is_a_function_of_its_arguments():
    labels = np.arange(150) % 64
    images = glyphs.render(labels, 3)
    assert images.shape == (150, 1, 16, 16)
    assert images.dtype == np.uint8
    assert np.array_equal(images, glyphs.render(labels, 3))
    assert not np.array_equal(images, glyphs.render(labels, 4))
    assert not np.array_equal(images, glyphs.render(labels, 3, world_seed=1))


@pytest.mark.parametrize("count", [1, 63, 64, 65, 150])
def test_an_image_does_not_depend_on_what_is_drawn_with_it(count):
    rng = np.random.default_rng(0)
    labels, others = rng.integers(64, size=150), rng.integers(64, size=150)
    images = glyphs.render(labels, 1)
    assert np.array_equal(glyphs.render(labels[:count], 1), images[:count])
    mixed = np.where(np.arange(150) % 7 == 3, labels, others)
    assert np.array_equal(glyphs.render(mixed, 1)[3::7], images[3::7])


def test_a_class_has_two_to_four_strokes_of_its_own():
    curves = [glyphs.strokes(label) for label in range(80)]
    assert {len(of_class) for of_class in curves} == {2, 3, 4}
    assert len({of_class.tobytes() for of_class in curves}) == 80
    for of_class in curves:
        assert of_class.shape[1:] == (3, 2)
        assert np.abs(of_class).max() <= 1
        assert np.hypot(*(of_class[:, 2] - of_class[:, 0]).T).min() >= 0.999
    with pytest.raises(ValueError, match="there is no class -1"):
        glyphs.strokes(-1)


def test_images_are_ink_on_black_and_differ_within_a_class():
    images = glyphs.render([17] * 300, 0)
    assert len(np.unique(images.reshape(300, -1), axis=0)) == 300
    many = glyphs.render(np.arange(512) % 64, 0, size=32).astype(float) / 255
    assert many.min() == 0
    assert many.max() == 1
    # Every glyph is seen, and most of an image is ground.
    share = (many > 0.5).mean(axis=(1, 2, 3))
    assert share.min() > 0.03
    assert share.max() < 0.6
    assert (many == 0).mean() > 0.5


def test_a_classes_mean_tells_it_from_most_others():
    means = np.stack([glyphs.render([label] * 64, 0).mean(axis=0).ravel() for label in range(16)])
    fresh = np.concatenate([glyphs.render([label] * 20, 1) for label in range(16)]).reshape(320, -1)
    nearest = ((fresh[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == np.arange(16).repeat(20)).mean() > 0.4


def test_splits_are_balanced_disjoint_and_told_by_the_seed():
    data = small()
    for name, size in zip(SPLITS, (160, 40, 80), strict=True):
        assert np.bincount(data.source(name).labels).tolist() == [size // 8] * 8
    hashes = np.concatenate([pixel_hashes(data.source(name).pixels) for name in SPLITS])
    assert len(np.unique(hashes)) == len(hashes) == 280
    same, other = small(), small(seed=1)
    assert all(np.array_equal(data.source(name).pixels, same.source(name).pixels) for name in SPLITS)
    assert not np.isin(np.concatenate([pixel_hashes(other.source(name).pixels) for name in SPLITS]), hashes).any()
    assert data.fingerprint() == same.fingerprint() != other.fingerprint()


def test_the_target_has_classes_that_the_source_has_not():
    source, target = small(num_classes=64, train_size=640), small(num_classes=16, first_class=64)
    assert not set(source.classes) & set(target.classes)
    assert sorted(set(target.source("fit").labels)) == list(range(16))
    assert np.array_equal(
        small(first_class=64, num_classes=2, train_size=2).source("fit").pixels,
        target.source("fit").pixels[:2],
    )


@pytest.mark.parametrize("shift", ["plain", "inverted", "background"])
def test_batches_are_like_the_fake_one_and_in_order(shift):
    data = small(shift=shift)
    true, fake = next(iter(data.train_dataloader())), data.fake_batch(16)
    assert {key: (value.shape, value.dtype) for key, value in fake.items()} == {
        key: (value.shape, value.dtype) for key, value in true.items()
    }
    assert -1 <= true["image"].min() < true["image"].max() <= 1
    (loader,) = data.test_dataloader()
    assert torch.cat([batch["index"] for batch in loader]).tolist() == list(range(80))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_classes": 1}, "data.num_classes is 1"),
        ({"first_class": -1}, "data.first_class is -1"),
        ({"train_size": 7}, "each of 8 classes needs a training image"),
        ({"val_size": 0}, "data.val_size is 0"),
        ({"test_size": 0}, "data.test_size is 0"),
    ],
)
def test_bad_values_are_one_line(options, said):
    with pytest.raises(ValueError, match=said) as error:
        small(**options)
    assert "\n" not in str(error.value)
