"""The third task: views carried over by depth, and predictions turned to another camera."""

import torch

from datamodules.worlds import heads
from lightning_modules.geod.inverse.renderer import ScenePrediction, Shape
from lightning_modules.geod.novel_views import novel_view_loss, turned_prediction
from networks.gan.generators3d.volume_rendering import Rendering
from tests.geod.build import bump, cameras, images, renderer_of, world


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


def test_a_prediction_turned_nowhere_is_its_reconstruction():
    renderer, image = renderer_of(), images(3)
    found, known = turned_prediction(renderer, image, cameras(3), cameras(3))
    prediction = renderer(image)
    mask = prediction.shape.valid[:, None]
    assert torch.allclose(found * mask, prediction.reconstruction[:3], atol=1e-5)
    other = turned_prediction(renderer, image, cameras(3), cameras(3, yaw=0.4))[0]
    assert not torch.allclose(other, found, atol=0.05)
    assert known.mean() > 0.5


def test_predictions_are_turned_with_the_camera():
    # The world's own shapes and poses in place of predictions: seen from a third of the way round, the depth is the
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
    renderer.forward = lambda image: ScenePrediction(image, shape, canonical, canonical, canonical, image, image)
    warped = []
    own = renderer.warp_depth
    renderer.warp_depth = lambda *words: warped.append(own(*words)) or warped[-1]
    turned_prediction(renderer, torch.zeros(16, 3, 64, 64), poses[0.3], poses[0.1])
    mask = (warped[0] < renderer.far) & torch.from_numpy(found[0.1].mask)
    assert (warped[0] - second).abs()[mask].median() < 2e-3
    assert (warped[0] - first).abs()[mask].median() > 5e-3


def test_novel_views_train_the_second_view_and_not_the_branch():
    renderer, image = renderer_of(), images(2)
    second = images(2, seed=5).requires_grad_()
    depth = bump().repeat(2, 1, 1)
    views = [Rendering(x, depth, torch.ones_like(depth), x) for x in (image.requires_grad_(), second)]
    novel_view_loss("warp", views[0], cameras(2), views[1], cameras(2, yaw=0.2), renderer, 1.25).backward()
    assert second.grad.abs().sum() > 0
    assert image.grad is None
    assert all(p.grad is None for p in renderer.parameters())
