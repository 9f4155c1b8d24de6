"""The geometry branch: what is predicted, its units, and the way from the canonical view to the input's."""

import sys
import types

import numpy as np
import pytest
import torch

from common.errors import UserError
from datamodules.worlds import heads
from lightning_modules.geod.inverse.renderer import InverseRenderer
from lightning_modules.geod.inverse.unsup3d_weights import load_inverse_renderer
from networks.cameras import focal_length, normals_of_depth
from tests.geod.build import images, renderer_of, renderer_options, world


def test_both_hypotheses_are_predicted_and_normals_are_of_the_first():
    # Of an image that is no mirror image of itself, the halves differ.
    renderer, image = renderer_of(), images(3)
    prediction = renderer(image)
    shape = prediction.shape
    assert shape.canonical.shape == shape.depth.shape == (6, 32, 32)
    assert torch.equal(shape.canonical[3:], shape.canonical[:3].flip(-1))
    assert torch.equal(prediction.albedo[3:], prediction.albedo[:3].flip(-1))
    assert torch.equal(shape.normals, normals_of_depth(shape.depth[:3], renderer.focal))
    assert not torch.allclose(shape.normals, normals_of_depth(shape.depth[3:], renderer.focal), atol=0.01)
    assert not torch.allclose(*prediction.reconstruction.chunk(2), atol=0.01)


def test_every_image_is_predicted_as_if_it_were_alone():
    # Depth is centered by image, not by batch.
    renderer, image = renderer_of(), images(2)
    image[1] = image[1] * 0.2 + 0.7
    both, alone = renderer.predict_shape(image), renderer.predict_shape(image[:1])
    assert torch.allclose(both.canonical[0], alone.canonical[0], atol=1e-5)
    raw = torch.stack([torch.zeros(32, 32), torch.full((32, 32), 5.0)])
    depth = renderer.canonical_depth(raw)
    assert torch.allclose(depth[0], depth[1])


def test_depth_is_in_its_range_and_borders_are_far():
    renderer = renderer_of()
    depth = renderer.canonical_depth(100 * torch.randn(2, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert depth[:, :, 1:-1].amin().item() == pytest.approx(2.25)
    assert depth[:, :, 1:-1].amax().item() == pytest.approx(3.3)
    assert torch.allclose(depth[:, :, [0, -1]], torch.tensor(0.7 * 3.3 + 0.3 * 2.25))
    wide = renderer_of(size=64).canonical_depth(torch.zeros(1, 64, 64))
    assert (wide != wide[0, 0, 32]).sum(dim=-1).unique().tolist() == [4]


def test_the_unturned_view_is_the_canonical_image():
    renderer, image = renderer_of(), images(2)
    depth = renderer.predict_shape(image).canonical[:2]
    eye, still = torch.eye(3).expand(2, 3, 3), torch.zeros(2, 3)
    seen = renderer.warp_depth(depth, eye, still)
    # The outermost pixels lie on the edge of the grid, where rounding decides whether they are outside.
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    assert torch.allclose(renderer.render_view(image, seen, eye, still)[inner], image[inner], atol=2e-5)


def test_true_shape_and_pose_give_the_depth_that_the_world_shows():
    # The world marches rays to an exact surface; the renderer rasterizes a mesh of its canonical depth.
    turned = world(24, 3, families=("ellipsoid", "cone"), size=64)
    spreads = heads._YAW, heads._PITCH
    try:
        heads._YAW = heads._PITCH = 1e-9
        frontal = world(24, 3, families=("ellipsoid", "cone"), size=64)
    finally:
        heads._YAW, heads._PITCH = spreads
    renderer = renderer_of(size=64)
    to_world = torch.from_numpy(turned.camera)[:, :16].reshape(-1, 4, 4)
    turn = to_world[:, :3, :3].transpose(1, 2)
    found = renderer.warp_depth(torch.from_numpy(frontal.depth), turn, torch.zeros(24, 3))
    error = (found - torch.from_numpy(turned.depth)).abs()[(found < renderer.far) & torch.from_numpy(turned.mask)]
    assert error.median() < 2e-3
    assert (error < 0.03).float().mean() > 0.95


def test_views_are_in_their_units():
    renderer = renderer_of(translation_range=[0.1, 0.5])
    turn, shift = renderer.view(torch.tensor([[0.0, 0.5, 0.0, 1.0, -0.5, 0.2]]))
    assert torch.asin(-turn[0, 2, 0]).item() == pytest.approx(np.radians(30), abs=1e-6)
    assert shift[0].tolist() == pytest.approx([0.1, -0.05, 0.1])


def test_light_is_lamberts():
    renderer = renderer_of()
    focal = focal_length(32, 18.837)
    albedo, flat = torch.full((1, 3, 32, 32), 0.6), torch.full((1, 32, 32), 2.7)
    shaded = renderer.shade(albedo, flat, torch.tensor([[-0.4, 0.0, 1.0, 0.0]]))
    # Ambient .3, diffuse .5 at 45 degrees, on an albedo of .8.
    assert torch.allclose(shaded, torch.tensor(0.8 * (0.3 + 0.5 / 2**0.5) * 2 - 1), atol=1e-4)
    slope = 2.7 / (1 + 0.5 * (torch.arange(32) - 15.5) / focal).expand(1, 32, 32)
    lit = [renderer.shade(albedo, slope, torch.tensor([[-1.0, 1.0, x, 0.0]]))[0, 0, 16, 16] for x in (-1.0, 1.0)]
    assert lit[1] > lit[0] + 0.3


@pytest.mark.parametrize(
    "changes", [{"size": 48}, {"size": 8}, {"width": 12}, {"code_dim": 15}, {"min_depth": 3.4}, {"min_depth": 0.0}]
)
def test_options_that_do_not_fit_are_refused(changes):
    with pytest.raises(UserError, match="inverse_renderer"):
        InverseRenderer(renderer_options(**changes))


def test_modules_are_named_and_sized_as_in_unsup3d():
    renderer = InverseRenderer(renderer_options(size=64, width=64, code_dim=256))
    shapes = {name: tuple(value.shape) for name, value in renderer.state_dict().items()}
    # Read off Unsup3D's networks for 64 pixels (geod §2.2).
    expected = {
        "netD.network.0.weight": (64, 3, 4, 4),
        "netD.network.1.weight": (64,),
        "netD.network.9.weight": (512, 256, 4, 4),
        "netD.network.11.weight": (256, 512, 4, 4),
        "netD.network.13.weight": (256, 512, 4, 4),
        "netD.network.15.weight": (512, 512, 3, 3),
        "netD.network.17.weight": (512, 256, 4, 4),
        "netD.network.20.weight": (256, 256, 3, 3),
        "netD.network.36.weight": (64, 64, 3, 3),
        "netD.network.39.weight": (64, 64, 5, 5),
        "netD.network.42.weight": (1, 64, 5, 5),
        "netA.network.42.weight": (3, 64, 5, 5),
        "netL.network.0.weight": (32, 3, 4, 4),
        "netL.network.8.weight": (256, 256, 4, 4),
        "netL.network.10.weight": (4, 256, 1, 1),
        "netV.network.10.weight": (6, 256, 1, 1),
        "netC.network.11.weight": (128, 512, 4, 4),
        "netC.network.13.weight": (128, 512, 4, 4),
        "netC.network.18.weight": (256, 128, 4, 4),
        "netC.out_net1.0.weight": (128, 64, 4, 4),
        "netC.out_net1.6.weight": (2, 64, 5, 5),
        "netC.out_net2.0.weight": (2, 128, 3, 3),
    }
    assert {name: shapes.get(name) for name in expected} == expected
    assert not any(name.endswith("bias") for name in shapes if ".network." in name and shapes[name] == (64, 3, 4, 4))


def test_unsup3d_checkpoints_load_by_their_names(tmp_path):
    first, second = renderer_of(1), renderer_of(2)
    names = ("netD", "netA", "netL", "netV", "netC")
    content = {name: getattr(first, name).state_dict() for name in names} | {"epoch": 30}
    torch.save(content, tmp_path / "checkpoint030.pth")
    load_inverse_renderer(second, str(tmp_path / "checkpoint030.pth"))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_unsup3ds_training_checkpoints_load_with_their_curves(tmp_path, monkeypatch):
    # They hold an object of a class that only Unsup3D has.
    trace = type("MetricsTrace", (), {"__module__": "unsup3d.meters"})
    meters = types.SimpleNamespace(MetricsTrace=trace)
    monkeypatch.setitem(sys.modules, "unsup3d", types.SimpleNamespace(meters=meters))
    monkeypatch.setitem(sys.modules, "unsup3d.meters", meters)
    first, second, curves = renderer_of(seed=1), renderer_of(seed=2), trace()
    curves.data = {"train": [{"loss": 0.3, "speed": 10.0}]}
    content = {name: getattr(first, name).state_dict() for name in ("netD", "netA", "netL", "netV", "netC")}
    torch.save(content | {"metrics_trace": curves, "epoch": 30}, tmp_path / "checkpoint030.pth")
    monkeypatch.undo()
    load_inverse_renderer(second, str(tmp_path / "checkpoint030.pth"))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_pixel_is_valid_where_both_hypotheses_have_a_surface():
    renderer, image = renderer_of(), images(4)
    bias = torch.tensor([0.0, 0.9, 0.0, 0.8, 0.0, 0.0])
    renderer.view = lambda numbers, view=renderer.view: view(bias.expand(len(numbers), 6))
    shape = renderer.predict_shape(image)
    own, mirrored = (shape.depth < renderer.far).float().chunk(2)
    assert torch.equal(shape.valid, own * mirrored)
    assert not torch.equal(own, mirrored)


def test_files_that_are_no_such_networks_are_refused(tmp_path):
    renderer, path = renderer_of(), tmp_path / "some.pth"
    with pytest.raises(UserError, match="no file"):
        load_inverse_renderer(renderer, str(path))
    torch.save({"netD": {"bias": torch.zeros(1)}}, path)
    with pytest.raises(UserError, match="holds no inverse renderer; expected netD"):
        load_inverse_renderer(renderer, str(path))
    names = ("netD", "netA", "netL", "netV", "netC")
    torch.save({name: getattr(renderer_of(width=16), name).state_dict() for name in names}, path)
    with pytest.raises(UserError, match="not of this size"):
        load_inverse_renderer(renderer, str(path))


def test_normals_keep_their_precision_under_autocast():
    renderer, image = renderer_of(), images(2)
    plain = renderer.predict_shape(image).normals
    with torch.autocast("cpu", torch.bfloat16):
        mixed = renderer.predict_shape(image).normals
        prediction = renderer(image)
    assert torch.allclose(plain, mixed, atol=1e-5)
    assert prediction.reconstruction.dtype == torch.float32


def test_other_sizes_are_resized():
    renderer = renderer_of()
    assert renderer(images(2).repeat_interleave(2, 2).repeat_interleave(2, 3)).image.shape == (2, 3, 32, 32)
