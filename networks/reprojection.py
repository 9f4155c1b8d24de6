"""A view carried over to another camera by its depth, and how far both views are apart."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from networks.cameras import back_project, split_camera
from networks.precision import single_precision


def resize_depth(depth: Float[Tensor, "b h w"], size: int) -> Float[Tensor, "b s s"]:
    """Return depth maps at another size (bilinear)."""
    if depth.shape[-1] == size:
        return depth
    return functional.interpolate(depth[:, None], (size, size), mode="bilinear", align_corners=False)[:, 0]


def reproject(
    image: Float[Tensor, "b c h w"],
    depth: Float[Tensor, "b h w"],
    camera: Float[Tensor, "b 25"],
    other_depth: Float[Tensor, "b h w"],
    other_camera: Float[Tensor, "b 25"],
    ray_length: float,
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b h w"]]:
    """Return how a view sees the other image, and a mask of the pixels that the other camera sees too.

    Args:
        image: the other camera's image.
        depth: z-depth of this view.
        camera: this view's camera, in EG3D's format.
        other_depth: z-depth of the other view, which decides what is hidden.
        other_camera: the other view's camera.
        ray_length: length of the rays; a point still counts as visible a twenty-fifth of it behind the other's depth.
    """
    with single_precision(depth):
        tolerance = 0.04 * ray_length
        return _reproject(image.float(), depth.float(), camera, other_depth.float(), other_camera, tolerance)


def _reproject(
    image: Tensor, depth: Tensor, camera: Tensor, other_depth: Tensor, other_camera: Tensor, tolerance: float
) -> tuple[Tensor, Tensor]:
    size = depth.shape[-1]
    to_world, intrinsics = split_camera(camera.float())
    other_to_world, other_intrinsics = split_camera(other_camera.float())
    points = back_project(depth, intrinsics[:, 0, 0] * size).flatten(1, 2)
    world = points @ to_world[:, :3, :3].transpose(1, 2) + to_world[:, None, :3, 3]
    other = (world - other_to_world[:, None, :3, 3]) @ other_to_world[:, :3, :3]
    positions = other[..., :2] / other[..., 2:] * other_intrinsics[:, 0, 0, None, None] * 2
    grid = positions.unflatten(1, (size, size))
    warped = functional.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    with torch.no_grad():
        front = functional.grid_sample(other_depth[:, None], grid, mode="bilinear", align_corners=False)[:, 0]
        is_visible = other[..., 2].unflatten(1, (size, size)) < front + tolerance
        mask = is_visible & (grid.abs().amax(dim=-1) < 1 - 1 / size)
    return warped, mask.float()


def reprojection_error(
    image: Float[Tensor, "b c h w"], warped: Float[Tensor, "b c h w"], mask: Float[Tensor, "b h w"]
) -> Float[Tensor, ""]:
    """Return the mean absolute difference of images over a mask."""
    difference = (image - warped).abs().mean(dim=1)
    return (difference * mask).sum() / mask.sum().clamp_min(1)
