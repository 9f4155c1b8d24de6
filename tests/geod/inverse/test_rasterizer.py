"""The depth-map mesh: against a loop over triangles, and its gradients against differences."""

import pytest
import torch

from lightning_modules.geod.inverse.rasterizer import grid_triangles, rasterize
from networks.cameras import back_project, focal_length
from tests.geod.build import bump, renderer_of


def slow(pixels, depth, size, far):
    """Rasterize triangle by triangle and pixel by pixel."""
    out = torch.full((size, size), far, dtype=torch.float64)
    pixels, depth = pixels.double(), depth.double()
    for corners in grid_triangles(size):
        (x0, y0), (x1, y1), (x2, y2) = pixels[corners]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area.abs() < 1e-9:
            continue
        low, high = pixels[corners].amin(0).ceil().long(), pixels[corners].amax(0).floor().long()
        for y in range(max(0, low[1]), min(size - 1, high[1]) + 1):
            for x in range(max(0, low[0]), min(size - 1, high[0]) + 1):
                w0 = ((x1 - x) * (y2 - y) - (x2 - x) * (y1 - y)) / area
                w1 = ((x2 - x) * (y0 - y) - (x0 - x) * (y2 - y)) / area
                weights = torch.stack([w0, w1, 1 - w0 - w1])
                if weights.min() >= -1e-4:
                    out[y, x] = torch.minimum(out[y, x], 1 / (weights / depth[corners]).sum())
    return out


def turned(depth, yaw, size):
    renderer = renderer_of()
    turn, shift = renderer.view(torch.tensor([[0.0, yaw / 1.0471975, 0, 0, 0, 0]]))
    points = renderer._turned(back_project(depth, focal_length(size, 18.837)).flatten(1, 2), turn, shift)
    return points[..., :2] / points[..., 2:] * focal_length(size, 18.837) + (size - 1) / 2, points[..., 2]


def test_unturned_depth_comes_back():
    renderer, depth = renderer_of(), bump()
    same = renderer.warp_depth(depth, torch.eye(3)[None], torch.zeros(1, 3))
    assert (same - depth).abs().max() < 2e-6


@pytest.mark.parametrize("yaw", [0.3, -0.6])
def test_it_is_what_a_loop_over_triangles_gives(yaw):
    size = 16
    pixels, depth = turned(bump(size), yaw, size)
    found = rasterize(pixels, depth, size, far=9.0, window=16)
    expected = slow(pixels[0], depth[0], size, 9.0)
    assert torch.allclose(found[0].double(), expected, atol=1e-4)
    # Something is hidden, something uncovered.
    assert (expected == 9).any()
    assert (expected < 9).float().mean() > 0.5


def test_triangles_larger_than_the_window_leave_holes_and_not_wrong_depth():
    size = 16
    pixels, depth = turned(bump(size, height=1.2), 0.6, size)
    whole, cut = (rasterize(pixels, depth, size, far=9.0, window=window) for window in (16, 2))
    same = cut == whole
    assert not same.all()
    assert (cut[~same] > whole[~same]).all()


def test_the_nearest_surface_wins():
    size = 16
    pixels, depth = turned(bump(size, height=0.0), 0.0, size)
    both = torch.cat([pixels, pixels], dim=0)
    found = rasterize(both, torch.cat([depth, depth - 1]), size, far=9.0)
    assert (found[0] - found[1]).mean().item() == pytest.approx(1, abs=1e-4)


def test_gradients_are_those_of_differences():
    # The depth of the vertices and where they fall both move the depth that is seen.
    size = 16
    renderer = renderer_of(size=size)
    turn, shift = renderer.view(torch.tensor([[0.05, 0.3, 0, 0, 0, 0]]))
    depth = bump(size).double()
    weights = torch.randn(1, size, size, generator=torch.Generator().manual_seed(0)).double()
    inside = (renderer.warp_depth(depth, turn.double(), shift.double()) < 3.4).double()

    def total(depth):
        return (renderer.warp_depth(depth, turn.double(), shift.double()) * weights * inside).sum()

    depth.requires_grad_()
    (gradient,) = torch.autograd.grad(total(depth), depth)
    assert gradient.isfinite().all()
    for y, x in ((8, 8), (6, 10), (10, 5)):
        step = torch.zeros_like(depth)
        step[0, y, x] = 1e-7
        with torch.no_grad():
            difference = (total(depth + step) - total(depth - step)) / 2e-7
        assert gradient[0, y, x].item() == pytest.approx(difference.item(), rel=1e-3, abs=1e-5)


def test_gradients_are_finite_where_nothing_is_hit():
    size = 16
    pixels, depth = turned(bump(size), 0.6, size)
    pixels, depth = pixels.clone().requires_grad_(), depth.clone().requires_grad_()
    rasterize(pixels, depth, size, far=9.0).sum().backward()
    assert pixels.grad.isfinite().all()
    assert depth.grad.isfinite().all()
    # Of a mesh that lies on one pixel no triangle has an area.
    still = torch.zeros_like(depth, requires_grad=True)
    rasterize(torch.zeros_like(pixels.detach()), still + 2, size, far=9.0).sum().backward()
    assert still.grad.abs().sum() == 0
