"""Cameras, back-projection and normals: one convention for the generator's depth and the inverse renderer's.

x points right, y down, z away from the camera; depth is z, not the length of a ray. Normals point away from the camera
too: a plane that faces it has normal (0, 0, 1) (spec, sections 2.3 and 2.5).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

_EPS = 1e-7


def focal_length(size: int, fov: float) -> float:
    """Return the focal length in pixels of a camera whose outermost pixel centres span `fov` degrees (section 2.3)."""
    return (size - 1) / 2 / math.tan(math.radians(fov) / 2)


def pixel_grid(size: int, device: torch.device | None = None) -> Float[Tensor, "h w 2"]:
    """Return the pixels' coordinates (x, y), counted from the middle of the image."""
    line = torch.arange(size, dtype=torch.float32, device=device) - (size - 1) / 2
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)


def back_project(depth: Float[Tensor, "b h w"], focal: float | Float[Tensor, " b"]) -> Float[Tensor, "b h w 3"]:
    """Return the points that pixels of a square depth map show; the focal length is in its pixels."""
    grid = pixel_grid(depth.shape[-1], depth.device)
    scale = focal.reshape(-1, 1, 1, 1) if isinstance(focal, Tensor) else focal
    return torch.cat([grid / scale * depth[..., None], depth[..., None]], dim=-1)


def normals_of_points(points: Float[Tensor, "b h w 3"]) -> Float[Tensor, "b h w 3"]:
    """Return unit normals by central differences; the border of one pixel has (0, 0, 1) (section 2.5)."""
    along_x = points[:, 1:-1, 2:] - points[:, 1:-1, :-2]
    along_y = points[:, 2:, 1:-1] - points[:, :-2, 1:-1]
    inner = torch.linalg.cross(along_x, along_y)
    inner = inner / (inner.norm(dim=-1, keepdim=True) + _EPS)
    normals = functional.pad(inner, (0, 0, 1, 1, 1, 1))
    border = functional.pad(torch.zeros_like(inner[..., 0]), (1, 1, 1, 1), value=1.0)
    return torch.cat([normals[..., :2], normals[..., 2:] + border[..., None]], dim=-1)


def normals_of_depth(depth: Float[Tensor, "b h w"], focal: float | Float[Tensor, " b"]) -> Float[Tensor, "b h w 3"]:
    """Return the normals of a depth map, always in single precision."""
    return normals_of_points(back_project(depth.float(), focal))


def rotation(angles: Float[Tensor, "b 3"]) -> Float[Tensor, "b 3 3"]:
    """Return R = Rz Ry Rx of angles about x, y and z in radians (section 2.3)."""
    (cx, cy, cz), (sx, sy, sz) = angles.cos().unbind(-1), angles.sin().unbind(-1)
    rows = [
        *(cy * cz, sx * sy * cz - cx * sz, cx * sy * cz + sx * sz),
        *(cy * sz, sx * sy * sz + cx * cz, cx * sy * sz - sx * cz),
        *(-sy, sx * cy, cx * cy),
    ]
    return torch.stack(rows, dim=-1).reshape(-1, 3, 3)
