"""The paper's contribution: geometry read from a generated image teaches the geometry that the generator rendered.

Equation and schedule are those of the author's code (spec, section 2.5).
"""

from typing import Literal, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from lightning_modules.geod.geometry import back_project, normals_of_depth
from lightning_modules.geod.inverse_renderer import Shape
from networks.precision import single_precision
from networks.volume_rendering import split_camera


class GuidanceOptions(TypedDict):
    """When and how the generator is taught.

    The weight is `gamma_start` before `start_kimg` thousand real images, then rises along a line to `gamma_end` at
    `end_kimg`, and is 0 after `stop_kimg` (null: never). `interval`: generator steps from one lesson to the next.
    `detach_image`: whether the gradient through the image that geometry is read from is cut. `shuffle`: the control, in
    which every sample is taught the geometry read from another one. `kind`: normals, or depths less their means.
    `least_weight`: pixels count whose rays are stopped by more than this share.
    """

    gamma_start: float
    gamma_end: float
    start_kimg: float
    end_kimg: float
    stop_kimg: float | None
    interval: int
    detach_image: bool
    shuffle: bool
    kind: Literal["normal", "depth"]
    least_weight: float


def is_on(options: GuidanceOptions, images_seen: int) -> bool:
    """Return whether the ramp has begun and the end has not come."""
    kimg, stop = images_seen / 1000, options["stop_kimg"]
    return kimg >= options["start_kimg"] and (stop is None or kimg < stop)


def gamma(options: GuidanceOptions, images_seen: int) -> float:
    """Return the weight of the guidance after a number of real images."""
    kimg, start, end = images_seen / 1000, options["start_kimg"], options["end_kimg"]
    if not is_on(options, images_seen):
        return options["gamma_start"] if kimg < start else 0.0
    share = min(1.0, (kimg - start) / (end - start)) if end > start else 1.0
    return options["gamma_start"] + share * (options["gamma_end"] - options["gamma_start"])


def resize_depth(depth: Float[Tensor, "b h w"], size: int) -> Float[Tensor, "b s s"]:
    """Return depth maps at another size (bilinear)."""
    if depth.shape[-1] == size:
        return depth
    return functional.interpolate(depth[:, None], (size, size), mode="bilinear", align_corners=False)[:, 0]


def masked_difference(
    one: Float[Tensor, "b h w c"], other: Float[Tensor, "b h w c"], mask: Float[Tensor, "b h w"]
) -> Float[Tensor, ""]:
    """Return the absolute difference, summed over channels, averaged over the pixels of the mask."""
    difference = (one - other).abs().sum(dim=-1)
    return (difference * mask).sum() / mask.sum().clamp_min(1)


def guidance_loss(
    depth: Float[Tensor, "b h w"],
    focal: Float[Tensor, " b"],
    shape: Shape,
    *,
    weight: Float[Tensor, "b h w"] | None = None,
    least_weight: float = 0.0,
    kind: str = "normal",
    shuffle: bool = False,
) -> Float[Tensor, ""]:
    """Return how far rendered geometry is from the geometry that was read from the images.

    Args:
        depth: rendered z-depth, at the size of the reading.
        focal: focal length of the generator's cameras, in pixels of that size.
        shape: what was read from the images of the same samples.
        weight: how much of each ray is stopped, at the size of the reading; None for all.
        least_weight: pixels count where the weight is above this.
        kind: "normal", or "depth" less its mean over the mask.
        shuffle: whether each sample is taught by the next one's reading.
    """
    read, valid = shape.normals, shape.valid
    read_depth = shape.depth[: len(depth)]
    if shuffle:
        read, valid, read_depth = read.roll(1, 0), valid.roll(1, 0), read_depth.roll(1, 0)
    if weight is not None and least_weight > 0:
        valid = valid * (weight.detach() > least_weight)
    if kind == "depth":
        count = valid.sum(dim=(1, 2), keepdim=True).clamp_min(1)
        centred = [d - (d * valid).sum(dim=(1, 2), keepdim=True) / count for d in (depth, read_depth)]
        return masked_difference(centred[0][..., None], centred[1][..., None], valid)
    normals = normals_of_depth(depth, focal)
    rendered = (normals.detach() != 0).any(dim=-1).float()
    return masked_difference(normals, read, valid * rendered)


def reproject(
    image: Float[Tensor, "b c h w"],
    depth: Float[Tensor, "b h w"],
    camera: Float[Tensor, "b 25"],
    other_depth: Float[Tensor, "b h w"],
    other_camera: Float[Tensor, "b 25"],
    reach: float,
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b h w"]]:
    """Return how a view sees the other image, and a mask of the pixels that the other camera sees too.

    Args:
        image: the other camera's image.
        depth: z-depth of this view.
        camera: this view's camera, in EG3D's format.
        other_depth: z-depth of the other view, which tells what is hidden.
        other_camera: the other view's camera.
        reach: length of the rays; a point still counts as seen a twenty-fifth of it behind the other's depth.
    """
    with single_precision(depth):
        return _reproject(image.float(), depth.float(), camera, other_depth.float(), other_camera, 0.04 * reach)


def _reproject(
    image: Tensor, depth: Tensor, camera: Tensor, other_depth: Tensor, other_camera: Tensor, tolerance: float
) -> tuple[Tensor, Tensor]:
    size = depth.shape[-1]
    to_world, intrinsics = split_camera(camera.float())
    other_to_world, other_intrinsics = split_camera(other_camera.float())
    points = back_project(depth, intrinsics[:, 0, 0] * size).flatten(1, 2)
    world = points @ to_world[:, :3, :3].transpose(1, 2) + to_world[:, None, :3, 3]
    seen = (world - other_to_world[:, None, :3, 3]) @ other_to_world[:, :3, :3]
    places = seen[..., :2] / seen[..., 2:] * other_intrinsics[:, 0, 0, None, None] * 2
    grid = places.unflatten(1, (size, size))
    found = functional.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    with torch.no_grad():
        front = functional.grid_sample(other_depth[:, None], grid, mode="bilinear", align_corners=False)[:, 0]
        is_visible = seen[..., 2].unflatten(1, (size, size)) < front + tolerance
        mask = is_visible & (grid.abs().amax(dim=-1) < 1 - 1 / size)
    return found, mask.float()


def reprojection_error(
    image: Float[Tensor, "b c h w"], found: Float[Tensor, "b c h w"], mask: Float[Tensor, "b h w"]
) -> Float[Tensor, ""]:
    """Return the mean absolute difference of images over a mask."""
    difference = (image - found).abs().mean(dim=1)
    return (difference * mask).sum() / mask.sum().clamp_min(1)
