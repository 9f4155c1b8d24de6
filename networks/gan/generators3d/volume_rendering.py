"""Rays, samples along them, and what a camera sees of a density: pixels, expected depth, weights.

The midpoint rule is EG3D's (Chan et al. 2022; geod §2.8), cameras are those of `networks.cameras`.
"""

from collections.abc import Callable
from typing import NamedTuple, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from common.ranges import Fraction, NonNegativeInt, PositiveFloat, PositiveInt
from networks.cameras import split_camera
from networks.noise import BatchNoise
from networks.precision import single_precision


class RaySteps(TypedDict):
    """Samples of rays: `depth_samples` evenly from `ray_start` to `ray_end`, then `importance_samples` by density.

    Densities are per `density_unit` of length. What passes everything has the gray value `background`, 0 (black) to 1
    (white). In EG3D the two numbers are `depth_resolution` and `depth_resolution_importance`.
    """

    ray_start: PositiveFloat
    ray_end: PositiveFloat
    depth_samples: PositiveInt
    importance_samples: NonNegativeInt
    density_unit: PositiveFloat
    background: Fraction


class Rays(NamedTuple):
    """Rays of b cameras: origins and unit directions [b, r, 3], and the cosine to the optical axis [b, r]."""

    origins: Tensor
    directions: Tensor
    cosines: Tensor


class Rendering(NamedTuple):
    """What b cameras see.

    `image` [b, c, h, w]; `depth` [b, h, w] is z in the camera's frame, not the length of a ray; `weight` [b, h, w] in
    0..1 is how much of a ray was stopped; `raw` is the image before any super-resolution, else `image` itself.
    """

    image: Tensor
    depth: Tensor
    weight: Tensor
    raw: Tensor


def cast_rays(camera: Float[Tensor, "b 25"], size: int) -> Rays:
    """Return the rays through the middles of the pixels, row by row."""
    to_world, intrinsics = split_camera(camera.float())
    line = (torch.arange(size, device=camera.device) + 0.5) / size
    v, u = torch.meshgrid(line, line, indexing="ij")
    pixels = torch.stack([u, v, torch.ones_like(u)], dim=-1).reshape(-1, 3)
    in_camera = functional.normalize(pixels @ torch.linalg.inv(intrinsics).transpose(1, 2), dim=-1)
    directions = in_camera @ to_world[:, :3, :3].transpose(1, 2)
    return Rays(to_world[:, None, :3, 3].expand_as(directions), directions, in_camera[..., 2])


def stratified_samples(
    rays: Rays, near: float, far: float, count: int, *, jitter: BatchNoise | None
) -> Float[Tensor, "b r s"]:
    """Return distances along rays, evenly from near to far; with jitter each is drawn within its step."""
    line = torch.linspace(near, far, count, device=rays.directions.device)
    distances = line.expand(*rays.cosines.shape, count)
    if jitter is not None:
        drawn = jitter.uniform("stratified", distances.shape, device=distances.device)
        distances = distances + drawn * ((far - near) / (count - 1))
    return distances


def composite(
    colors: Float[Tensor, "b c r s"],
    densities: Float[Tensor, "b r s"],
    distances: Float[Tensor, "b r s"],
    density_unit: float = 1.0,
) -> tuple[Float[Tensor, "b c r"], Float[Tensor, "b r"], Float[Tensor, "b r"], Float[Tensor, "b r s-1"]]:
    """Return color, expected distance, weight sum and weights of rays by the midpoint rule.

    Densities are before their activation, softplus(d - 1), and per unit of length. The expected distance is that of
    what was hit: it is divided by the sum of the weights and kept between the ray's first and its last sample. A ray
    that hits nothing ends at its last sample.
    """
    steps = distances[..., 1:] - distances[..., :-1]
    middles = (distances[..., 1:] + distances[..., :-1]) / 2
    density = functional.softplus((densities[..., 1:] + densities[..., :-1]) / 2 - 1)
    optical_depth = density * steps / density_unit
    # Transmittance to a step is exp of minus all density before it.
    before = optical_depth.cumsum(dim=-1) - optical_depth
    weights = torch.exp(-before) * -torch.expm1(-optical_depth)
    total = weights.sum(dim=-1)
    # Colors at the middle of a step are means of its ends: each sample has half of both its steps.
    halves = weights / 2
    at_samples = functional.pad(halves, (0, 1)) + functional.pad(halves, (1, 0))
    color = (at_samples[:, None] * colors).sum(dim=-1)
    distance = (weights * middles).sum(dim=-1) / total.clamp_min(1e-10)
    first, last = distances[..., 0], distances[..., -1]
    distance = torch.where(total > 1e-10, distance.clamp(first, last), last)
    return color, distance, total, weights


@torch.no_grad()
def importance_samples(
    distances: Float[Tensor, "b r s"], weights: Float[Tensor, "b r s-1"], count: int, *, jitter: BatchNoise | None
) -> Float[Tensor, "b r n"]:
    """Return distances drawn where the weights are, smoothed as in EG3D; without jitter, at even quantiles."""
    smooth = functional.max_pool1d(weights.flatten(0, 1)[:, None], 2, 1, padding=1)
    smooth = functional.avg_pool1d(smooth, 2, 1).reshape(weights.shape) + 0.01
    share = smooth / smooth.sum(dim=-1, keepdim=True)
    cumulated = functional.pad(share.cumsum(dim=-1), (1, 0))
    shape = (*distances.shape[:-1], count)
    if jitter is not None:
        quantiles = jitter.uniform("importance", shape, device=distances.device)
    else:
        quantiles = ((torch.arange(count, device=distances.device) + 0.5) / count).expand(shape).contiguous()
    above = torch.searchsorted(cumulated, quantiles, right=True).clamp(1, cumulated.shape[-1] - 1)
    low, high = cumulated.gather(-1, above - 1), cumulated.gather(-1, above)
    start, end = distances.gather(-1, above - 1), distances.gather(-1, above)
    return start + (quantiles - low) / (high - low).clamp_min(1e-5) * (end - start)


def march(
    field: Callable[[Float[Tensor, "b p 3"], Float[Tensor, "b p 3"]], tuple[Tensor, Tensor]],
    camera: Float[Tensor, "b 25"],
    size: int,
    steps: RaySteps,
    *,
    jitter: BatchNoise | None,
    density_noise: float = 0.0,
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b h w"], Float[Tensor, "b h w"]]:
    """Return colors in -1..1, z-depth and weight of what cameras see, in single precision.

    Args:
        field: from points and unit directions to densities [b, p] (before their activation) and colors [b, c, p]
            in 0..1.
        camera: cameras in EG3D's format.
        size: side of the images.
        steps: see `RaySteps`.
        jitter: draws the positions of the samples at random, and the noise on densities; None for neither.
        density_noise: deviation of the noise that is added to densities.
    """

    def along(distances: Float[Tensor, "b r s"]) -> tuple[Tensor, Tensor]:
        directions = rays.directions[:, :, None].expand(-1, -1, distances.shape[-1], -1)
        points = rays.origins[:, :, None] + distances[..., None] * directions
        density, colors = field(points.flatten(1, 2), directions.flatten(1, 2))
        return density.unflatten(1, distances.shape[1:]), colors.unflatten(2, distances.shape[1:])

    with single_precision(camera):
        rays = cast_rays(camera, size)
        distances = stratified_samples(
            rays, steps["ray_start"], steps["ray_end"], steps["depth_samples"], jitter=jitter
        )
        density, colors = along(distances)
        if steps["importance_samples"]:
            weights = composite(colors.detach(), density.detach(), distances, steps["density_unit"])[3]
            extra = importance_samples(distances, weights, steps["importance_samples"], jitter=jitter)
            new_density, new_colors = along(extra)
            distances, order = torch.cat([distances, extra], dim=-1).sort(dim=-1)
            density = torch.cat([density, new_density], dim=-1).gather(-1, order)
            both = torch.cat([colors, new_colors], dim=-1)
            colors = both.gather(-1, order[:, None].expand_as(both))
        if density_noise > 0 and jitter is not None:
            density = density + density_noise * jitter.normal("density", density.shape, device=density.device)
        color, distance, total, _ = composite(colors, density, distances, steps["density_unit"])
        color = color + steps["background"] * (1 - total[:, None])
        images = (color * 2 - 1).unflatten(2, (size, size))
        return images, (distance * rays.cosines).unflatten(1, (size, size)), total.unflatten(1, (size, size))
