"""The worlds of faces and objects: what is known is what is drawn, and regions are where they are said to be."""

import itertools

import numpy as np
import pytest
import torch

from datamodules.faces import AlignedFaces
from datamodules.memory import pixel_hashes
from datamodules.objects import PlacedObjects
from datamodules.worlds import faces, objects
from datamodules.worlds.drawing import coverage, ellipse, pixel_centers, rgb

WORLDS = {"faces": (AlignedFaces, faces), "objects": (PlacedObjects, objects)}


@pytest.fixture(params=WORLDS)
def made(request):
    return WORLDS[request.param]


def small(kind, **options):
    return kind(**{"train_size": 40, "val_size": 12, "test_size": 20, "batch_size": 8} | options)


def test_splits_share_no_image_and_depend_on_the_world_seed_alone(made):
    data = small(made[0])
    pixels = [data.source(name).pixels for name in ("fit", "val", "test")]
    hashes = np.concatenate([pixel_hashes(of) for of in pixels])
    assert len(np.unique(hashes)) == len(hashes) == 72
    assert np.array_equal(small(made[0], seed=5).source("test").pixels, pixels[2])
    assert not np.array_equal(small(made[0], world_seed=1).source("test").pixels, pixels[2])
    assert small(made[0], seed=5).fingerprint() == data.fingerprint() != small(made[0], world_seed=1).fingerprint()


def test_an_image_depends_on_seed_and_place_alone(made):
    many, few = made[1].render(300, 3, 32), made[1].render(5, 3, 32)
    assert all(np.array_equal(one[:5], other) for one, other in zip(many, few, strict=True))


def test_an_image_is_the_same_at_every_size(made):
    fine, coarse = made[1].render(50, 4, 64), made[1].render(50, 4, 32)
    assert np.array_equal(fine.labels, coarse.labels)
    assert np.array_equal(fine.factors, coarse.factors)
    pooled = fine.images.reshape(50, 3, 32, 2, 32, 2).mean((3, 5))
    assert np.abs(pooled - coarse.images).mean() < 3
    assert (fine.segmentation[:, ::2, ::2] == coarse.segmentation).mean() > 0.95


def test_a_batch_is_what_the_fake_one_promises(made):
    data = small(made[0], image_size=32)
    batch, fake = next(iter(data.train_dataloader())), data.fake_batch(8)
    assert {name: (value.shape, value.dtype) for name, value in batch.items()} == {
        name: (value.shape, value.dtype) for name, value in fake.items()
    }
    assert -1 <= batch["image"].min() < -0.5
    assert 0.5 < batch["image"].max() <= 1
    assert batch["segmentation"].shape == (8, 32, 32)
    assert batch["factors"].shape == (8, len(made[1].FACTORS))
    assert torch.equal(batch["label"], batch["labels"][:, 0])


def test_labels_are_equal_parts_of_factors_and_all_occur(made):
    found = made[1].render(3000, 5, 16)
    assert list(small(made[0]).label_sizes.items()) == list(made[1].LABELS.items())
    for column, (name, parts) in zip(found.labels.T, made[1].LABELS.items(), strict=True):
        factor = found.factors[:, made[1].FACTORS.index(name)]
        assert set(column) == set(range(parts))
        order = [factor[column == part] for part in range(parts)]
        assert all(a.max() < b.min() for a, b in itertools.pairwise(order))
        assert np.bincount(column).min() > 0.8 * 3000 / parts


def test_every_image_has_every_class(made):
    found = made[1].render(2000, 6, 16)
    for number in range(len(small(made[0]).classes)):
        assert (found.segmentation == number).any(axis=(1, 2)).all()


@pytest.mark.parametrize("size", [16, 32])
def test_eyes_and_mouth_stay_within_their_boxes(size):
    found = faces.render(4000, 7, size)
    for kind, box in faces.BOXES.items():
        top, left, bottom, right = (round(edge * size) for edge in box)
        there = found.segmentation == faces.CLASSES.index({"eyes": "eye"}.get(kind, kind))
        outside = there.copy()
        outside[:, top:bottom, left:right] = False
        assert there.any(axis=(1, 2)).all()
        assert not outside.any()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("eye_openness", "eye"), ("iris", "eye"), ("mouth_opening", "mouth"), ("mouth_color", "mouth"), ("hair", "hair")],
)
def test_a_factor_changes_its_own_region_and_no_other(name, kind):
    known = faces.render(500, 9, 32).factors
    ends = []
    for quantile in (0, 1):
        factors = dict(zip(faces.FACTORS, known.T, strict=True))
        ends.append(faces.draw(factors | {name: np.full_like(factors[name], np.quantile(factors[name], quantile))}, 32))
    changed = np.abs(ends[0].images.astype(int) - ends[1].images).max(axis=1) > 8
    number = faces.CLASSES.index(kind)
    region = (ends[0].segmentation == number) | (ends[1].segmentation == number)
    assert changed.any(axis=(1, 2)).all()
    # Soft edges reach a pixel further.
    padded = np.pad(region, ((0, 0), (1, 1), (1, 1)))
    near = np.any([padded[:, 1 + i : 33 + i, 1 + j : 33 + j] for i in (-1, 0, 1) for j in (-1, 0, 1)], axis=0)
    # Brows have the color of the hair.
    allowed = near | (np.indices((32, 32))[0] < 12) if kind == "hair" else near
    assert not (changed & ~allowed).any()


def test_an_object_is_where_its_factors_say():
    found = objects.render(400, 8, 32)
    known = dict(zip(objects.FACTORS, found.factors.T, strict=True))
    rows, columns = np.indices((32, 32)) * 2 / 32 - 1 + 1 / 32
    share = found.segmentation.sum(axis=(1, 2))
    assert np.abs((found.segmentation * columns).sum(axis=(1, 2)) / share - known["x"]).max() < 0.06
    assert np.abs((found.segmentation * rows).sum(axis=(1, 2)) / share - known["y"]).max() < 0.06
    assert 0.02 < (share / 32**2).min() < (share / 32**2).max() < 0.25


def test_shapes_are_drawn_as_large_as_they_are():
    x, y = pixel_centers(64)
    for wide, tall in ((0.5, 0.5), (0.6, 0.2), (0.3, 0.05), (0.05, 0.4)):
        share = coverage(ellipse(x, y, wide, tall), 64).mean()
        assert share == pytest.approx(np.pi * wide * tall / 4, rel=0.06)
    # Far from a thin ellipse nothing is covered.
    assert not coverage(ellipse(x, y, 0.2, 1e-3), 64)[:, :, 45:].any()


def test_colors_are_those_of_their_hue():
    hues = np.array([0, 1 / 3, 2 / 3, 0.5], np.float32)
    ones = np.ones(4, np.float32)
    assert np.allclose(rgb(hues, ones, ones), [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1]], atol=1e-6)
    assert np.allclose(rgb(hues, 0 * ones, 0.5 * ones), 0.5)


def test_what_cannot_be_drawn_is_refused(made):
    for name, value, least in (("image_size", 8, 16), ("test_size", 0, 1)):
        with pytest.raises(ValueError, match=rf"data\.{name} is {value}, should be a number, at least {least}"):
            small(made[0], **{name: value})
