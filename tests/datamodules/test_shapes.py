import numpy as np
import pytest

from datamodules.worlds import shapes
from datamodules.worlds.silhouettes import SILHOUETTES


def test_rendering_is_a_function_of_its_arguments():
    labels = np.arange(600) % 256
    images = shapes.render(labels, 3)
    assert images.shape == (600, 3, 16, 16)
    assert images.dtype == np.uint8
    assert np.array_equal(images, shapes.render(labels, 3))
    assert not np.array_equal(images, shapes.render(labels, 4))


@pytest.mark.parametrize("count", [1, 255, 256, 257, 300])
def test_an_image_does_not_depend_on_the_others(count):
    rng = np.random.default_rng(0)
    labels, others = rng.integers(256, size=300), rng.integers(256, size=300)
    images = shapes.render(labels, 1)
    assert np.array_equal(shapes.render(labels[:count], 1), images[:count])
    mixed = np.where(np.arange(300) % 7 == 3, labels, others)
    assert np.array_equal(shapes.render(mixed, 1)[3::7], images[3::7])


def test_images_of_one_class_differ():
    images = shapes.render([17] * 300, 0).reshape(300, -1)
    assert len(np.unique(images, axis=0)) == 300


def test_pixels_use_the_range_and_the_noise_has_its_strength():
    images = shapes.render(np.arange(512) % 256, 0, size=32).astype(float) / 255
    assert images.min() == 0.0
    assert images.max() == 1.0
    # The corner is background, 0.1..0.5 in each channel, hardly clipped near its middle.
    one = shapes.render([0] * 2000, 5, size=16)[:, :, 0, 0].astype(float) / 255
    assert 0.2 < one.std() < 0.3
    assert 0.28 < one.mean() < 0.36


def test_attributes_round_trip():
    seen = {shapes.attributes(label) for label in range(shapes.NUM_CLASSES)}
    assert len(seen) == shapes.NUM_CLASSES == 256
    for label in range(shapes.NUM_CLASSES):
        shape, stripe, hue = shapes.attributes(label)
        assert (shape * len(shapes.STRIPES) + stripe) * len(shapes.HUES) + hue == label
    assert str(shapes.attributes(0)) == "red disc, upright stripes"
    for wrong in (-1, 256):
        with pytest.raises(ValueError, match="no class"):
            shapes.attributes(wrong)
        with pytest.raises(ValueError, match="classes 0 to 255"):
            shapes.render([wrong], 0)


def test_shared_and_neighbours():
    assert shapes.shared(0, 0) == 3
    assert shapes.shared(0, 1) == 2
    assert shapes.shared(0, 255) == 0
    assert shapes.neighbours(0, range(256)) == 7 + 3 + 7


def clean(monkeypatch, labels, size=64):
    """Images without noise, all in the same place on a black ground."""
    monkeypatch.setattr(shapes, "_NOISE", 0.0)
    still = dict.fromkeys(shapes._NUISANCE, (0.0, 0.0)) | {"radius": (0.7, 0.7), "frequency": (2.0, 2.0)}
    monkeypatch.setattr(shapes, "_NUISANCE", still)
    return shapes.render(labels, 0, size)


def test_the_eight_outlines_differ_much_and_are_whole(monkeypatch):
    images = clean(monkeypatch, [shape * 32 for shape in range(8)])
    covered = images.max(axis=1) > 100
    centres = ((np.arange(64, dtype=np.float32) + 0.5) / 32 - 1) / np.float32(0.7)
    for number, name in enumerate(shapes.SHAPES):
        # Neither kind of stripe cuts a hole into the outline.
        outline = SILHOUETTES[name](*np.meshgrid(centres, centres)) < 0
        assert (outline & covered[number]).sum() / (outline | covered[number]).sum() > 0.93, name
        assert 0.1 < outline.mean() < 0.4, name
    for a in range(8):
        for b in range(a):
            both, either = (covered[a] & covered[b]).sum(), (covered[a] | covered[b]).sum()
            assert both / either < 0.85, (shapes.SHAPES[a], shapes.SHAPES[b])


def test_hue_is_in_the_image(monkeypatch):
    images = clean(monkeypatch, list(range(8))).astype(float)
    red, green, blue = images.sum(axis=(2, 3)).T
    by_name = {name: (r, g, b) for name, r, g, b in zip(shapes.HUES, red, green, blue, strict=True)}
    for name, largest in (("red", 0), ("green", 1), ("blue", 2)):
        assert np.argmax(by_name[name]) == largest
    ratios = np.stack([red, green, blue], 1) / (red + green + blue)[:, None]
    apart = np.abs(ratios[:, None] - ratios[None]).sum(-1) + np.eye(8)
    assert apart.min() > 0.05


@pytest.mark.parametrize(("stripe", "angle"), [(0, 0), (1, 45), (2, 90), (3, 135)])
def test_stripes_run_as_named(monkeypatch, stripe, angle):
    image = clean(monkeypatch, [64 + stripe * 8])[0].astype(float).mean(axis=0)
    inside = image[20:44, 20:44]
    down, right = np.gradient(inside)
    # The mean direction of change, told apart by the doubled angle.
    twice = np.arctan2(2 * (down * right).sum(), (right**2 - down**2).sum())
    assert np.cos(twice - np.deg2rad(2 * angle)) > 0.95


@pytest.mark.parametrize("name", SILHOUETTES)
def test_silhouettes_are_signed_distances_of_unit_size(name):
    grid = np.linspace(-1.5, 1.5, 301, dtype=np.float32)
    x, y = np.meshgrid(grid, grid)
    inside = SILHOUETTES[name](x, y) < 0
    reach = np.hypot(x, y)[inside].max()
    assert 0.85 < reach < 1.25
    step = np.abs(np.diff(SILHOUETTES[name](x, y), axis=1)).max() / (grid[1] - grid[0])
    assert step < 1.2


def test_a_sheet_has_a_row_per_class():
    picture = shapes.sheet([0, 40], 3, size=16, zoom=2)
    assert picture.shape == (64, 96, 3)
    rows = shapes.render([0, 0, 0, 40, 40, 40], 0)
    assert np.array_equal(picture[32:64:2, 32:64:2], rows[4].transpose(1, 2, 0))
