"""Rays, samples, and what a camera sees of a density."""

import math

import numpy as np
import pytest
import torch

from datamodules.worlds import heads
from networks.cameras import split_camera
from networks.gan.generators3d.volume_rendering import (
    RaySteps,
    cast_rays,
    composite,
    importance_samples,
    march,
    stratified_samples,
)
from networks.noise import BatchNoise

STEPS = RaySteps(ray_start=2.0, ray_end=3.5, depth_samples=96, importance_samples=0, density_unit=1.0, background=0.0)


def camera(yaw=0.0, count=1, size=16):
    return torch.from_numpy(heads.cameras(np.full(count, yaw, np.float32), np.zeros(count, np.float32), size))


def raw(density):
    """Return what softplus(x - 1) turns into a density."""
    return math.log(math.expm1(density)) + 1


def test_rays_start_at_the_camera_and_pass_the_pixels_middles():
    rays = cast_rays(camera(0.4), 16)
    to_world, intrinsics = split_camera(camera(0.4))
    assert torch.allclose(rays.origins[0, 0], to_world[0, :3, 3])
    assert torch.allclose(rays.directions.norm(dim=-1), torch.ones(1, 256), atol=1e-6)
    seen = rays.directions[0] @ to_world[0, :3, :3]
    assert torch.allclose(seen[:, 2], rays.cosines[0], atol=1e-6)
    pixel = seen[:, :2] / seen[:, 2:] * intrinsics[0, 0, 0] + 0.5
    assert torch.allclose(pixel[16 * 3 + 5], torch.tensor([5.5 / 16, 3.5 / 16]), atol=1e-6)


def test_a_slab_of_constant_density_has_its_analytic_depth():
    # Depth is that of what was hit; the rays that pass through count for nothing.
    density, start, end = 3.0, 0.2, 0.6
    inside = torch.tensor(raw(density))

    def look(points, directions):
        there = (points[..., 2] > start) & (points[..., 2] < end)
        return torch.where(there, inside, -40.0), torch.ones(len(points), 3, points.shape[1])

    steps = STEPS | {"depth_samples": 3000}
    _, depth, weight = march(look, camera(), 2, steps, jitter=None)
    cosine = cast_rays(camera(), 2).cosines[0, 0]
    length = (end - start) / cosine
    stopped = 1 - torch.exp(-density * length)
    assert torch.allclose(weight, stopped.expand(1, 2, 2), atol=2e-3)
    # The mean of an exponential cut off at the end of the slab, along the ray, then along the axis.
    mean = 1 / density - length * torch.exp(-density * length) / stopped
    assert torch.allclose(depth, (heads.CENTRE + start + mean * cosine).expand(1, 2, 2), atol=2e-3)


def test_a_facing_wall_has_one_depth():
    # The length of rays would rise towards the corners.
    def look(points, directions):
        return (points[..., 2] - 0.1) * 4000, torch.ones(len(points), 3, points.shape[1])

    _, depth, weight = march(look, camera(), 16, STEPS | {"depth_samples": 2000}, jitter=None)
    assert weight.min() > 0.999
    assert (depth - depth.mean()).abs().max() < 1e-3
    assert depth.mean().item() == pytest.approx(heads.CENTRE + 0.1, abs=0.03)


def test_compositing_is_that_of_a_loop():
    generator = torch.Generator().manual_seed(0)
    colors = torch.rand(2, 4, 3, 9, generator=generator)
    densities = 3 * torch.randn(2, 3, 9, generator=generator)
    distances = torch.rand(2, 3, 9, generator=generator).cumsum(dim=-1) + 2
    color, distance, total, weights = composite(colors, densities, distances)
    for b in range(2):
        for r in range(3):
            left, seen, where, sum_ = 1.0, torch.zeros(4), 0.0, 0.0
            for k in range(8):
                step = distances[b, r, k + 1] - distances[b, r, k]
                middle = (densities[b, r, k] + densities[b, r, k + 1]) / 2
                alpha = 1 - math.exp(-math.log1p(math.exp(middle - 1)) * step)
                weight = left * alpha
                assert weights[b, r, k].item() == pytest.approx(float(weight), abs=1e-5)
                seen += weight * (colors[b, :, r, k] + colors[b, :, r, k + 1]) / 2
                where += weight * (distances[b, r, k] + distances[b, r, k + 1]) / 2
                sum_, left = sum_ + weight, left * (1 - alpha)
            assert torch.allclose(color[b, :, r], seen, atol=1e-5)
            assert total[b, r].item() == pytest.approx(float(sum_), abs=1e-5)
            assert distance[b, r].item() == pytest.approx(float(where / sum_), abs=1e-4)


def test_empty_rays_are_finite_and_have_no_weight():
    # As in EG3D they end at the last sample: what they pass hides nothing.
    found = composite(torch.ones(1, 3, 1, 4), torch.full((1, 1, 4), -80.0), torch.linspace(2, 3, 4).expand(1, 1, 4))
    assert all(part.isfinite().all() for part in found)
    assert found[1].item() == 3
    assert found[2] < 1e-6


def test_samples_are_even_and_jitter_stays_in_its_step():
    rays = cast_rays(camera(), 4)
    even = stratified_samples(rays, 2.0, 3.0, 11, jitter=None)
    assert torch.allclose(even[0, 3], torch.linspace(2, 3, 11))
    drawn = stratified_samples(rays, 2.0, 3.0, 11, jitter=BatchNoise(0, 0))
    assert ((drawn - even) >= 0).all()
    assert ((drawn - even) <= 0.1 + 1e-6).all()


def test_importance_samples_lie_where_the_weights_are():
    distances = torch.linspace(2, 3, 21).expand(1, 1, 21)
    weights = torch.zeros(1, 1, 20)
    weights[..., 12] = 1.0
    for jitter in (None, BatchNoise(0, 0)):
        more = importance_samples(distances, weights, 400, jitter=jitter)
        near = ((more > 2.55) & (more < 2.7)).float().mean()
        assert near > 0.85
        assert more.min() >= 2
        assert more.max() <= 3
    evenly = importance_samples(distances, torch.ones(1, 1, 20), 100, jitter=None)
    assert torch.allclose(evenly.sort(dim=-1).values, (torch.arange(100) + 0.5) / 100 + 2, atol=1e-3)


def test_a_second_look_sharpens_the_depth_of_a_wall():
    def look(points, directions):
        return (points[..., 2] - 0.137) * 1e5, torch.ones(len(points), 3, points.shape[1])

    errors = []
    for more in (0, 24):
        steps = STEPS | {"depth_samples": 24, "importance_samples": more}
        _, depth, _ = march(look, camera(), 8, steps, jitter=None)
        errors.append((depth - heads.CENTRE - 0.137).abs().mean())
    assert errors[1] < 0.5 * errors[0]


def test_noise_on_densities_changes_what_is_seen():
    def look(points, directions):
        return torch.zeros(points.shape[:2]), torch.ones(len(points), 3, points.shape[1])

    steps = STEPS | {"samples": 400}
    found = [march(look, camera(), 8, steps, jitter=BatchNoise(0, 0), density_noise=noise)[2] for noise in (0.0, 1.0)]
    assert found[0].std() < 1e-3 < found[1].std()
    still = march(look, camera(), 8, steps, jitter=None, density_noise=1.0)[2]
    assert still.std() < 1e-3


def test_what_passes_everything_is_the_background():
    def look(points, directions):
        return torch.full(points.shape[:2], -40.0), torch.ones(len(points), 3, points.shape[1])

    for background, shown in ((0.0, -1.0), (1.0, 1.0)):
        image = march(look, camera(), 4, STEPS | {"background": background}, jitter=None)[0]
        assert torch.allclose(image, torch.tensor(shown), atol=1e-5)


def test_densities_are_per_unit_of_length():
    densities, distances = torch.zeros(1, 1, 5), torch.linspace(2, 3, 5).expand(1, 1, 5)
    colors = torch.ones(1, 3, 1, 5)
    tenth = composite(colors, densities, (distances - 2) / 10 + 2, density_unit=0.1)
    assert torch.allclose(tenth[2], composite(colors, densities, distances)[2])
