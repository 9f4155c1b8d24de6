"""What teaches the generator: masks, schedule, both paths of the gradient, the control, and novel views."""

from pathlib import Path

import pytest
import torch

from datamodules.worlds import heads
from lightning_modules.geod.geometry import focal_length, normals_of_depth
from lightning_modules.geod.guidance import gamma, guidance_loss, masked_difference, reproject, resize_depth
from lightning_modules.geod.inverse_renderer import Reading, Shape
from lightning_modules.geod.losses import guidance
from lightning_modules.geod.novel_views import novel_view_loss, turned_reading
from networks.volume_rendering import Rendering
from tests.geod.build import bump, cameras, images, module_of, plain, renderer_of, world

FOCAL = focal_length(32, 18.837)
SCHEDULE = {"gamma_start": 0.0, "gamma_end": 0.1, "start_kimg": 20, "end_kimg": 60, "stop_kimg": 2000}


def shape_of(depth, valid=None):
    valid = torch.ones_like(depth) if valid is None else valid
    eye = torch.eye(3).expand(len(depth), 3, 3)
    both = torch.cat([depth, depth.flip(-1)])
    return Shape(both, both, valid, normals_of_depth(depth, FOCAL), eye, torch.zeros(len(depth), 3))


def test_the_weight_is_nothing_in_the_warm_up_and_rises_along_a_line():
    # Trap 5.
    weights = [gamma(SCHEDULE, n * 1000) for n in (0, 10, 19, 20, 30, 40, 60, 1999, 2000, 5000)]
    assert weights == pytest.approx([0, 0, 0, 0, 0.025, 0.05, 0.1, 0.1, 0, 0])
    assert gamma(SCHEDULE | {"stop_kimg": None}, 10**9) == 0.1
    assert gamma(SCHEDULE | {"start_kimg": 0, "end_kimg": 0}, 0) == 0.1


def test_masks_count_pixels_and_hide_the_rest():
    # Trap 6: nine tenths masked, and what is masked is wild.
    one, other = torch.zeros(1, 10, 10, 3), torch.full((1, 10, 10, 3), 100.0)
    other[0, 0] = torch.tensor([0.1, -0.2, 0.4])
    mask = torch.zeros(1, 10, 10)
    mask[0, 0] = 1
    assert masked_difference(one, other, mask).item() == pytest.approx(0.7)
    assert masked_difference(one, other, torch.zeros(1, 10, 10)) == 0


def test_pixels_that_are_not_valid_teach_nothing():
    read, rendered = bump(), bump(height=0.3)
    valid = torch.ones(1, 32, 32)
    valid[:, :, :16] = 0
    half = guidance_loss(rendered, torch.tensor([FOCAL]), shape_of(read, valid))
    wild = shape_of(read, valid)._replace(normals=torch.where(valid[..., None] > 0, shape_of(read).normals, 7.0))
    assert guidance_loss(rendered, torch.tensor([FOCAL]), wild) == half > 0
    # The bump is the same on both sides.
    assert half.item() == pytest.approx(guidance_loss(rendered, torch.tensor([FOCAL]), shape_of(read)).item(), rel=0.1)


def test_pixels_without_rendered_normals_teach_nothing():
    # Trap 6: points that lie in one place have none. The border's are (0, 0, 1) on both sides.
    nowhere = torch.zeros(1, 32, 32)
    assert (normals_of_depth(nowhere, FOCAL)[:, 1:-1, 1:-1] == 0).all()
    assert guidance_loss(nowhere, torch.tensor([FOCAL]), shape_of(bump())) == 0


def test_empty_rays_are_left_out_on_request():
    read, rendered, weight = bump(), bump(height=0.3), torch.ones(1, 32, 32)
    weight[:, :, :16] = 0.2
    focal, shape = torch.tensor([FOCAL]), shape_of(read)
    half = torch.ones(1, 32, 32)
    half[:, :, :16] = 0
    found = guidance_loss(rendered, focal, shape, weight=weight, least_weight=0.5)
    assert found == guidance_loss(rendered, focal, shape_of(read, half))
    assert guidance_loss(rendered, focal, shape, weight=weight) == guidance_loss(rendered, focal, shape)


def test_the_control_is_taught_by_another_sample():
    depth = torch.cat([bump(height=height) for height in (0.2, 0.4, 0.6)])
    focal = torch.full((3,), FOCAL)
    assert guidance_loss(depth, focal, shape_of(depth)) == 0
    rolled = shape_of(depth.roll(1, 0))
    assert guidance_loss(depth, focal, shape_of(depth), shuffle=True) == guidance_loss(depth, focal, rolled) > 0.05


def test_depth_is_compared_but_for_its_mean():
    depth, focal = torch.cat([bump(), bump(height=0.2)]), torch.full((2,), FOCAL)
    offset = depth + torch.tensor([0.3, -0.1])[:, None, None]
    assert guidance_loss(offset, focal, shape_of(depth), kind="depth").item() == pytest.approx(0, abs=1e-6)
    assert guidance_loss(depth.roll(1, 0), focal, shape_of(depth), kind="depth") > 0.01
    # Trap 7: the first half is the image's own.
    leaning = depth + torch.linspace(0, 0.3, 32)
    assert guidance_loss(leaning, focal, shape_of(leaning), kind="depth") == 0


def test_the_gradient_takes_both_paths_unless_one_is_cut():
    # Trap 4.
    found = {}
    for detach in (False, True):
        module = module_of(guidance={"gamma_end": 1.0, "detach_image": detach})
        depth = bump(height=0.3).repeat(2, 1, 1).requires_grad_()
        image = images(2).requires_grad_()
        weight = torch.ones(2, 32, 32)
        rendering, options = Rendering(image, depth, weight, image), module.options["guidance"]
        guidance(module.networks.reader, rendering, cameras(2), options).backward()
        found[detach] = (depth.grad, image.grad)
    assert found[False][0].abs().sum() > 0
    assert found[False][1].abs().sum() > 0
    assert torch.equal(found[True][0], found[False][0])
    assert found[True][1] is None


def test_both_paths_are_open_unless_a_config_says_otherwise():
    # Trap 4.
    files = [path for path in Path("conf").rglob("geod*.yaml") if "detach_image: true" in path.read_text()]
    assert files == []
    assert plain("geod")["guidance"]["detach_image"] is False


def test_geometry_is_read_from_the_image_that_is_shown():
    # Trap 4: not from the one before super-resolution.
    module, seen = module_of(guidance={"gamma_end": 1.0}), []
    reader = module.networks.reader
    own = reader.shape
    reader.shape = lambda image: seen.append(image) or own(image)
    depth, image = bump().repeat(2, 1, 1), images(2)
    rendering = Rendering(image, depth, torch.ones_like(depth), torch.zeros_like(image))
    guidance(reader, rendering, cameras(2), module.options["guidance"])
    assert torch.equal(seen[0], image)


def test_depth_is_resized_to_what_is_read():
    depth = bump(64)
    assert resize_depth(depth, 32).shape == (1, 32, 32)
    assert resize_depth(depth, 64) is depth


def test_a_view_is_carried_over_by_true_depth_and_hidden_pixels_are_left_out():
    found = world(4, 7)
    depth, camera = torch.from_numpy(found.depth), torch.from_numpy(found.camera)
    image = torch.from_numpy(found.images).float()
    same, mask = reproject(image, depth, camera, depth, camera, 1.25)
    assert mask[:, 2:-2, 2:-2].min() == 1
    assert torch.allclose(same[:, :, 2:-2, 2:-2], image[:, :, 2:-2, 2:-2], atol=0.5)


def test_what_another_surface_hides_is_left_out():
    # From the side a wall in front hides part of what this view sees.
    depth, other = torch.full((1, 32, 32), 3.0), torch.full((1, 32, 32), 3.0)
    other[:, :, :16] = 2.0
    camera = cameras(1)
    mask = reproject(torch.zeros(1, 3, 32, 32), depth, camera, other, camera, 1.25)[1]
    assert mask[:, 2:-2, 2:14].max() == 0
    assert mask[:, 2:-2, 18:-2].min() == 1


def test_the_same_object_at_two_poses_fits_only_with_its_depth():
    # The world drawn twice with the same seed and other spreads of the pose: the same heads.
    spread, first = heads._YAW, heads.render(8, 3, 64)
    try:
        heads._YAW = 0.1
        second = heads.render(8, 3, 64)
    finally:
        heads._YAW = spread
    views = [torch.from_numpy(x.images).float() / 127.5 - 1 for x in (first, second)]
    depths, poses = ([torch.from_numpy(getattr(x, name)) for x in (first, second)] for name in ("depth", "camera"))
    flat = torch.full_like(depths[0], float(depths[0].mean()))
    errors = []
    for depth in (depths[0], flat):
        first_view = Rendering(views[0], depth, torch.ones_like(depth), views[0])
        second_view = Rendering(views[1], depths[1], torch.ones_like(depth), views[1])
        errors.append(novel_view_loss("reproject", first_view, poses[0], second_view, poses[1], None, 1.25))
    assert errors[0] < 0.06
    assert errors[0] < 0.5 * errors[1]


def test_a_reading_turned_nowhere_is_its_reconstruction():
    renderer, image = renderer_of(), images(3)
    found, known = turned_reading(renderer, image, cameras(3), cameras(3))
    reading = renderer(image)
    mask = reading.shape.valid[:, None]
    assert torch.allclose(found * mask, reading.reconstruction[:3], atol=1e-5)
    other = turned_reading(renderer, image, cameras(3), cameras(3, yaw=0.4))[0]
    assert not torch.allclose(other, found, atol=0.05)
    assert known.mean() > 0.5


def test_what_is_read_is_turned_with_the_camera():
    # The world's own shapes and poses in place of a reading: seen from a third of the way round, the depth is the
    # world's there.
    spreads, found = (heads._YAW, heads._PITCH), {}
    try:
        for yaw in (1e-9, 0.3, 0.1):
            heads._YAW, heads._PITCH = yaw, 1e-9
            found[yaw] = world(16, 3, families=("ellipsoid", "cone"), size=64)
    finally:
        heads._YAW, heads._PITCH = spreads
    frontal, first, second = (torch.from_numpy(found[yaw].depth) for yaw in (1e-9, 0.3, 0.1))
    poses = {yaw: torch.from_numpy(one.camera) for yaw, one in found.items()}
    renderer = renderer_of(size=64)
    turn = poses[0.3][:, :16].reshape(-1, 4, 4)[:, :3, :3].transpose(1, 2)
    both = torch.cat([frontal, frontal.flip(-1)])
    canonical = torch.zeros(32, 3, 64, 64)
    shape = Shape(both, both, torch.ones_like(first), torch.zeros(16, 64, 64, 3), turn, torch.zeros(16, 3))
    renderer.forward = lambda image: Reading(image, shape, canonical, canonical, canonical, image, image)
    warped = []
    own = renderer.warp_depth
    renderer.warp_depth = lambda *words: warped.append(own(*words)) or warped[-1]
    turned_reading(renderer, torch.zeros(16, 3, 64, 64), poses[0.3], poses[0.1])
    mask = (warped[0] < renderer.far) & torch.from_numpy(found[0.1].mask)
    assert (warped[0] - second).abs()[mask].median() < 2e-3
    assert (warped[0] - first).abs()[mask].median() > 5e-3


def test_novel_views_teach_the_second_view_and_not_the_reader():
    renderer, image = renderer_of(), images(2)
    second = images(2, seed=5).requires_grad_()
    depth = bump().repeat(2, 1, 1)
    views = [Rendering(x, depth, torch.ones_like(depth), x) for x in (image.requires_grad_(), second)]
    novel_view_loss("warp", views[0], cameras(2), views[1], cameras(2, yaw=0.2), renderer, 1.25).backward()
    assert second.grad.abs().sum() > 0
    assert image.grad is None
    assert all(p.grad is None for p in renderer.parameters())
