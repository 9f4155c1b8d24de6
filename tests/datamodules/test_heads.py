"""The world of heads and its DataModule: what is known is what is drawn, and the mean shape is a poor guess."""

import numpy as np
import pytest
import torch

from datamodules.heads import RenderedHeads
from datamodules.memory import pixel_hashes
from datamodules.worlds import heads
from lightning_modules.geod.evaluation.depth_metrics import eroded, mad
from networks.cameras import focal_length, normals_of_depth

DIVERSE = list(heads.FAMILIES)


def small(**options):
    sizes = {"train_size": 40, "val_size": 12, "test_size": 20, "batch_size": 8}
    return RenderedHeads(**(sizes | {"families": DIVERSE} | options))


def errors_of(depth, found):
    """Return the mean angle (degrees) between the normals of a depth and of found heads, inside each."""
    focal = focal_length(32, heads.FOV)
    truth = normals_of_depth(torch.from_numpy(found.depth), focal)
    inside = eroded(torch.from_numpy(found.mask).float())
    return mad(normals_of_depth(torch.as_tensor(depth), focal).expand_as(truth), truth, inside)


def test_the_mean_shape_is_at_least_thirty_degrees_off():
    # Or else a pull towards the mean head would pass for learned shapes (geod §3.1).
    fit, found = heads.render(1024, 0, 32), heads.render(512, 1, 32)
    mean = fit.depth.mean(axis=0, keepdims=True)
    assert errors_of(mean, found).mean() >= 30
    alike = heads.render(512, 1, 32, ("ellipsoid",))
    assert errors_of(alike.depth.mean(axis=0, keepdims=True), alike).mean() < 20


def test_families_differ_and_their_outlines_do_not():
    found = heads.render(1500, 2, 32)
    shares = [found.mask[found.labels[:, 0] == k].mean() for k in range(len(DIVERSE))]
    assert max(shares) / min(shares) < 1.1
    for family, name in enumerate(DIVERSE):
        own = found.depth[found.labels[:, 0] == family].mean(axis=0, keepdims=True)
        others = [found.depth[found.labels[:, 0] == k].mean(axis=0, keepdims=True) for k in range(6) if k != family]
        chosen = heads.Heads(*(part[found.labels[:, 0] == family] for part in found))
        best = min(errors_of(other, chosen).mean() for other in others)
        assert errors_of(own, chosen).mean() < best, name


def test_splits_share_no_head_and_depend_on_the_world_seed_alone():
    data = small()
    pixels = [data.source(name).pixels for name in ("fit", "val", "test")]
    hashes = np.concatenate([pixel_hashes(of) for of in pixels])
    assert len(np.unique(hashes)) == len(hashes) == 72
    assert np.array_equal(small(seed=5).source("test").pixels, pixels[2])
    assert small(seed=5).fingerprint() == data.fingerprint() != small(world_seed=1).fingerprint()
    assert small(asymmetric=True).fingerprint() != data.fingerprint()


def test_a_head_depends_on_seed_and_place_alone():
    many, few = heads.render(150, 3, 32), heads.render(5, 3, 32)
    for one, other in zip(many, few, strict=True):
        assert np.array_equal(one[:5], other)


def test_a_head_has_the_same_depth_at_every_size():
    fine, coarse = heads.render(8, 4, 63), heads.render(8, 4, 32)
    # Every second pixel centre of 63 is one of 32.
    assert np.abs(fine.depth[:, ::2, ::2] - coarse.depth).max() < 2e-3


def test_batches_hold_what_is_known():
    batch = small().source("fit").fetch([0, 1, 2])
    shapes = {name: tuple(value.shape) for name, value in batch.items()}
    assert shapes == {
        "image": (3, 3, 32, 32),
        "label": (3,),
        "depth": (3, 32, 32),
        "mask": (3, 32, 32),
        "camera": (3, 25),
        "labels": (3, 4),
    }
    fake = small().fake_batch(3)
    assert {name: (tuple(value.shape), value.dtype) for name, value in fake.items() if name != "index"} == {
        name: (tuple(value.shape), value.dtype) for name, value in batch.items()
    }
    assert set(np.unique(heads.render(600, 5, 32).labels[:, 0])) == set(range(6))


def test_heads_are_symmetric_but_for_the_patch():
    spread = heads._YAW, heads._PITCH, dict(heads._LIGHT)
    try:
        heads._YAW = heads._PITCH = 1e-9
        heads._LIGHT["x"] = (0.0, 1e-9)
        plain, patched = (heads.render(16, 6, 32, asymmetric=patch) for patch in (False, True))
    finally:
        heads._YAW, heads._PITCH = spread[:2]
        heads._LIGHT.update(spread[2])
    assert np.abs(plain.depth - plain.depth[..., ::-1]).max() < 1e-3
    differs = plain.images.astype(int) - plain.images[..., ::-1]
    assert np.abs(differs).max() <= 2
    changed = (plain.images != patched.images).any(axis=(0, 1))
    assert changed[:, 18:].any()
    assert not changed[:, :16].any()


def test_the_camera_sees_the_depth_that_is_told():
    found = heads.render(6, 7, 32)
    to_world = found.camera[:, :16].reshape(-1, 4, 4)
    # A camera as far from the origin as heads turn, looking at it.
    assert np.linalg.norm(to_world[:, :3, 3], axis=1) == pytest.approx(np.full(6, heads.CENTRE), abs=1e-5)
    assert found.depth[found.mask].min() > 2.25 - 0.1
    yaw = np.arcsin(-to_world[:, 0, 2])
    assert np.std(np.arcsin(-heads.render(1000, 8, 32).camera[:, 2])) == pytest.approx(0.3, rel=0.1)
    assert np.isfinite(yaw).all()


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match=r"data\.image_size is 8"):
        small(image_size=8)
    with pytest.raises(ValueError, match=r"data\.val_size is 0"):
        small(val_size=0)
    for families in ([], ["cube"]):
        with pytest.raises(ValueError, match="should be some of ellipsoid, cone"):
            small(families=families)
