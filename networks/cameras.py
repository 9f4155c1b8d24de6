"""Cameras, back-projection, normals and poses: one convention for rendered and for predicted geometry.

x points right, y down, z away from the camera; depth is z, not the length of a ray. Normals point away from the camera
too: a plane that faces it has normal (0, 0, 1) (geod §2.3). A camera is EG3D's 25 numbers: a 4 x 4 camera-to-world
matrix and 3 x 3 intrinsics in units of the image's side (Chan et al. 2022).
"""

import math
from collections.abc import Mapping
from typing import Any, Literal, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from common.errors import UserError
from common.ranges import FieldOfView, NonNegativeFloat, PositiveFloat
from networks.noise import BatchNoise

_EPS = 1e-7
_NO_LABELS = "model.poses.kind is labels, but the data have no cameras: take gaussian or uniform"


class PoseOptions(TypedDict):
    """How poses of generated objects are drawn (geod §2.8).

    `kind`: "gaussian" or "uniform" yaw and pitch, or "labels", the cameras of the training images in another order.
    `yaw`, `pitch`: deviation, or half the width of the uniform range, in radians. `radius`: distance to the origin.
    `fov` in degrees between the outermost pixel centers.
    """

    kind: Literal["gaussian", "uniform", "labels"]
    yaw: NonNegativeFloat
    pitch: NonNegativeFloat
    radius: PositiveFloat
    fov: FieldOfView


# Pixels, points and normals.


def focal_length(size: int, fov: float) -> float:
    """Return the focal length in pixels of a camera whose outermost pixel centers span `fov` degrees (geod §2.3)."""
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
    """Return unit normals by central differences; the border of one pixel has (0, 0, 1) (geod §2.5)."""
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


# Cameras.


def rotation(angles: Float[Tensor, "b 3"]) -> Float[Tensor, "b 3 3"]:
    """Return R = Rz Ry Rx of angles about x, y and z in radians (geod §2.3)."""
    (cx, cy, cz), (sx, sy, sz) = angles.cos().unbind(-1), angles.sin().unbind(-1)
    rows = [
        *(cy * cz, sx * sy * cz - cx * sz, cx * sy * cz + sx * sz),
        *(cy * sz, sx * sy * sz + cx * cz, cx * sy * sz - sx * cz),
        *(-sy, sx * cy, cx * cy),
    ]
    return torch.stack(rows, dim=-1).reshape(-1, 3, 3)


def split_camera(camera: Float[Tensor, "b 25"]) -> tuple[Float[Tensor, "b 4 4"], Float[Tensor, "b 3 3"]]:
    """Return camera-to-world matrices and intrinsics."""
    return camera[:, :16].reshape(-1, 4, 4), camera[:, 16:].reshape(-1, 3, 3)


def focal_in_pixels(camera: Float[Tensor, "b 25"], size: int) -> Float[Tensor, " b"]:
    """Return the focal length of cameras for images of a size."""
    return camera[:, 16] * size


def orbit_cameras(
    yaw: Float[Tensor, " b"], pitch: Float[Tensor, " b"], options: PoseOptions, size: int
) -> Float[Tensor, "b 25"]:
    """Return cameras around the origin that see an object there turned by yaw and pitch (radians)."""
    to_camera = rotation(torch.stack([pitch, yaw, torch.zeros_like(yaw)], dim=1))
    to_world = torch.eye(4, device=yaw.device).repeat(len(yaw), 1, 1)
    to_world[:, :3, :3] = to_camera.transpose(1, 2)
    to_world[:, :3, 3] = -options["radius"] * to_camera[:, 2]
    # EG3D's pixels are areas: the outermost centers lie half a pixel inside.
    focal = (size - 1) / size / 2 / math.tan(math.radians(options["fov"]) / 2)
    intrinsics = torch.tensor([focal, 0, 0.5, 0, focal, 0.5, 0, 0, 1], device=yaw.device)
    return torch.cat([to_world.flatten(1), intrinsics.expand(len(yaw), 9)], dim=1)


def turned_cameras(
    turns: Float[Tensor, "n 2"], options: PoseOptions, size: int, labels: Float[Tensor, "m 25"] | None = None
) -> Float[Tensor, "n 25"]:
    """Return cameras that see an object turned by yaw and pitch (radians) from its front.

    Without labels that is the front of `orbit_cameras`; with labels the view of the label nearest to their mean.
    """
    if labels is None:
        return orbit_cameras(turns[:, 0], turns[:, 1], options, size)
    positions = labels[:, [3, 7, 11]]
    front = labels[(positions - positions.mean(dim=0)).norm(dim=1).argmin()]
    to_world = front[:16].reshape(4, 4)
    to_camera = to_world[:3, :3].T
    away = -to_camera @ to_world[:3, 3]
    turned = rotation(torch.stack([turns[:, 1], turns[:, 0], torch.zeros_like(turns[:, 0])], dim=1)) @ to_camera
    cameras = front.repeat(len(turns), 1)
    matrix = torch.eye(4, device=front.device).repeat(len(turns), 1, 1)
    matrix[:, :3, :3] = turned.transpose(1, 2)
    matrix[:, :3, 3] = -(turned.transpose(1, 2) @ away)
    cameras[:, :16] = matrix.flatten(1)
    return cameras


def draw_cameras(
    count: int,
    options: PoseOptions,
    size: int,
    generator: torch.Generator,
    labels: Float[Tensor, "n 25"] | None = None,
) -> Float[Tensor, "b 25"]:
    """Return random cameras on the CPU.

    Args:
        count: number of cameras.
        options: see `PoseOptions`.
        size: side of the images.
        generator: of the CPU.
        labels: cameras to draw from, for kind "labels".

    Raises:
        UserError: if there should be labels and are none.
    """
    if options["kind"] == "labels":
        if labels is None:
            raise UserError(_NO_LABELS)
        return labels.cpu()[torch.randint(len(labels), (count,), generator=generator)]
    draw = torch.randn if options["kind"] == "gaussian" else torch.rand
    return _posed(draw(2, count, generator=generator), options, size)


def noise_cameras(
    noise: BatchNoise, count: int, options: PoseOptions, size: int, labels: Float[Tensor, "n 25"] | None = None
) -> Float[Tensor, "b 25"]:
    """Return random cameras of a training batch on the CPU, see `draw_cameras`.

    Args:
        noise: the batch's noise, or a part of it for one of several cameras.
        count: number of this process's samples.
        options: see `PoseOptions`.
        size: side of the images.
        labels: cameras to draw from, the same on all processes, for kind "labels".

    Raises:
        UserError: if there should be labels and are none.
    """
    if options["kind"] == "labels":
        if labels is None:
            raise UserError(_NO_LABELS)
        return labels.cpu()[noise.integers("label", 0, len(labels), (count,))]
    draw = noise.normal if options["kind"] == "gaussian" else noise.uniform
    return _posed(draw("pose", (count, 2)).T, options, size)


def _posed(numbers: Float[Tensor, "2 b"], options: PoseOptions, size: int) -> Float[Tensor, "b 25"]:
    yaw, pitch = numbers if options["kind"] == "gaussian" else numbers * 2 - 1
    return orbit_cameras(yaw * options["yaw"], pitch * options["pitch"], options, size)


def require_cameras(batch: Mapping[str, Any]) -> None:
    """Raise UserError if a batch of images has no cameras."""
    if "camera" not in batch:
        raise UserError(_NO_LABELS)


def label_cameras(source: Any, count: int) -> Float[Tensor, "n 25"]:
    """Return `count` cameras of a data set's images, spread evenly over it.

    Args:
        source: a data set with `cameras` [len(source), 25].
        count: number of cameras.

    Raises:
        UserError: if the images have none.
    """
    cameras = getattr(source, "cameras", None)
    if cameras is None:
        raise UserError(_NO_LABELS)
    return torch.as_tensor(cameras)[torch.linspace(0, len(source) - 1, count).long()].float()
