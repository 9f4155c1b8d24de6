import numpy as np
import pytest
import sklearn.datasets
import torch

from datamodules.digits_shifted import ShiftedDigits
from datamodules.memory import pixel_hashes
from datamodules.shifts import SHIFTS, shifted, waves

SPLITS = ("fit", "val", "test")
RAMP = np.tile(np.arange(0, 256, 16, dtype=np.uint8), (40, 1, 16, 1))


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize(("per_class", "val"), [(4, 1), (10, 2), (40, 8)])
def test_few_images_of_each_class_and_the_others_are_the_test(shift, per_class, val):
    data = ShiftedDigits(shift=shift, per_class=per_class)
    assert np.bincount(data.source("val").labels).tolist() == [val] * 10
    assert np.bincount(data.source("fit").labels).tolist() == [per_class - val] * 10
    assert len(data.source("test")) == 1797 - 10 * per_class
    hashes = np.concatenate([pixel_hashes(data.source(name).pixels) for name in SPLITS])
    assert len(np.unique(hashes)) == len(hashes) == 1797


def test_labels_are_those_of_the_enlarged_digits():
    digits = sklearn.datasets.load_digits()
    data = ShiftedDigits(shift="plain")
    for name in SPLITS:
        source = data.source(name)
        # Means of 2 x 2 pixels are smoothed digits.
        small = source.pixels.reshape(-1, 8, 2, 8, 2).mean(axis=(2, 4)) * 16 / 255
        distance = ((small[:40, None] - digits.images) ** 2).sum(axis=(2, 3))
        assert np.array_equal(digits.target[distance.argmin(axis=1)], source.labels[:40])


def test_the_seed_draws_the_images_and_nothing_else_does():
    first, same, other = ShiftedDigits(seed=0), ShiftedDigits(seed=0), ShiftedDigits(seed=1)
    assert first.fingerprint() == same.fingerprint() != other.fingerprint()
    inverted = [set(pixel_hashes(data.source("fit").pixels)) for data in (first, other)]
    assert inverted[0] != inverted[1]
    # The same images are taken whatever the shift.
    plain = ShiftedDigits(shift="plain")
    assert all(np.array_equal(plain.source(n).pixels, 255 - first.source(n).pixels) for n in SPLITS)


def test_duplicates_are_left_out(monkeypatch):
    digits = sklearn.datasets.load_digits()
    twice = np.arange(0, 1797, 2).repeat(2)
    digits.images, digits.target = digits.images[twice], digits.target[twice]
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda: digits)
    data = ShiftedDigits()
    assert sum(len(data.source(name)) for name in SPLITS) == 899


def test_plain_leaves_and_inverted_turns_the_contrast():
    assert np.array_equal(shifted(RAMP, "plain", 0), RAMP)
    assert np.array_equal(shifted(RAMP, "inverted", 0), 255 - RAMP)
    plain, inverted = (ShiftedDigits(shift=shift).source("test").pixels.mean() for shift in SHIFTS[:2])
    assert plain < 100
    assert inverted > 155


def test_the_background_is_waves_under_what_is_left_of_the_image():
    pixels = shifted(RAMP, "background", 0)
    assert pixels.dtype == np.uint8
    ground = pixels - 0.55 * RAMP.astype(float)
    assert ground.min() > -1
    assert ground.max() < 0.45 * 255 + 1
    # Half of 45 % on average, and as strong as a sine: .45 / sqrt(8) of the range.
    assert 0.2 < ground.mean() / 255 < 0.25
    assert 0.13 < ground.std() / 255 < 0.18
    # An image's ground is that of its place, whatever is drawn on it, and every place has its own.
    other = shifted(np.zeros_like(RAMP), "background", 0)
    assert np.abs(other - ground).max() <= 1
    assert len({image.tobytes() for image in other}) == len(other)
    assert np.array_equal(shifted(RAMP[:7], "background", 0), pixels[:7])
    assert not np.array_equal(shifted(RAMP, "background", 1), pixels)


def test_waves_have_every_direction_and_one_to_three_cycles():
    patterns = waves(200, 32, 0)
    assert patterns.shape == (200, 32, 32)
    assert patterns.min() >= 0
    assert patterns.max() <= 1
    spectrum = np.abs(np.fft.fft2(patterns - patterns.mean(axis=(1, 2), keepdims=True)))
    down, across = np.unravel_index(spectrum.reshape(200, -1).argmax(axis=1), (32, 32))
    frequency = np.hypot(np.minimum(down, 32 - down), np.minimum(across, 32 - across))
    assert 1 <= frequency.min() <= frequency.max() < 4
    assert ((down == 0) & (across > 0)).any()
    assert ((across == 0) & (down > 0)).any()
    assert ((across > 0) & (down > 0)).any()


@pytest.mark.parametrize("shift", SHIFTS)
def test_batches_are_like_the_fake_one_and_in_order(shift):
    data = ShiftedDigits(shift=shift)
    true, fake = next(iter(data.train_dataloader())), data.fake_batch(50)
    assert {key: (value.shape, value.dtype) for key, value in fake.items()} == {
        key: (value.shape, value.dtype) for key, value in true.items()
    }
    assert true["image"].shape == (50, 1, 16, 16)
    assert -1 <= true["image"].min() < true["image"].max() <= 1
    (loader,) = data.test_dataloader()
    assert torch.cat([batch["label"] for batch in loader]).tolist() == data.source("test").labels.tolist()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"per_class": 1}, r"data\.per_class is 1"),
        ({"per_class": 101}, r"data\.per_class is 101"),
        ({"val_fraction": 0.0}, r"data\.val_fraction is 0\.0"),
        ({"val_fraction": 1.0}, r"data\.val_fraction is 1\.0"),
        ({"val_fraction": 0.96}, r"data\.val_fraction is 0\.96"),
    ],
)
def test_bad_values_are_one_line(options, said):
    with pytest.raises(ValueError, match=said) as error:
        ShiftedDigits(**options)
    assert "\n" not in str(error.value)


def test_there_is_no_other_shift():
    with pytest.raises(ValueError, match="there is no shift 'rotated': take plain, inverted, background"):
        shifted(RAMP, "rotated", 0)
