"""Poses of generated objects: cameras drawn around the world's origin, or those of the training images."""

import math
from typing import Any, Literal, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor

from common.errors import UserError
from lightning_modules.geod.geometry import rotation


class PoseOptions(TypedDict):
    """How poses are drawn (spec, section 2.8).

    `kind`: "gaussian" or "uniform" yaw and pitch, or "labels", the cameras of the training images in another order.
    `yaw`, `pitch`: deviation, or half the width of the uniform range, in radians. `radius`: distance to the origin.
    `fov` in degrees between the outermost pixel centres.
    """

    kind: Literal["gaussian", "uniform", "labels"]
    yaw: float
    pitch: float
    radius: float
    fov: float


def cameras(
    yaw: Float[Tensor, " b"], pitch: Float[Tensor, " b"], options: PoseOptions, size: int
) -> Float[Tensor, "b 25"]:
    """Return cameras, in EG3D's format, that see the origin's object turned by yaw and pitch (radians)."""
    to_camera = rotation(torch.stack([pitch, yaw, torch.zeros_like(yaw)], dim=1))
    to_world = torch.eye(4, device=yaw.device).repeat(len(yaw), 1, 1)
    to_world[:, :3, :3] = to_camera.transpose(1, 2)
    to_world[:, :3, 3] = -options["radius"] * to_camera[:, 2]
    # EG3D's pixels are areas: the outermost centres lie half a pixel inside.
    focal = (size - 1) / size / 2 / math.tan(math.radians(options["fov"]) / 2)
    intrinsics = torch.tensor([focal, 0, 0.5, 0, focal, 0.5, 0, 0, 1], device=yaw.device)
    return torch.cat([to_world.flatten(1), intrinsics.expand(len(yaw), 9)], dim=1)


def turned_cameras(
    turns: Float[Tensor, "n 2"], options: PoseOptions, size: int, labels: Float[Tensor, "m 25"] | None = None
) -> Float[Tensor, "n 25"]:
    """Return cameras that see an object turned by yaw and pitch (radians) from its front.

    Without labels that is the front of `cameras`; with labels the view of the label that is nearest to their mean.
    """
    if labels is None:
        return cameras(turns[:, 0], turns[:, 1], options, size)
    places = labels[:, [3, 7, 11]]
    front = labels[(places - places.mean(dim=0)).norm(dim=1).argmin()]
    to_world = front[:16].reshape(4, 4)
    to_camera = to_world[:3, :3].T
    away = -to_camera @ to_world[:3, 3]
    turned = rotation(torch.stack([turns[:, 1], turns[:, 0], torch.zeros_like(turns[:, 0])], dim=1)) @ to_camera
    found = front.repeat(len(turns), 1)
    matrix = torch.eye(4, device=front.device).repeat(len(turns), 1, 1)
    matrix[:, :3, :3] = turned.transpose(1, 2)
    matrix[:, :3, 3] = -(turned.transpose(1, 2) @ away)
    found[:, :16] = matrix.flatten(1)
    return found


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
            raise UserError("poses.kind is labels, but the data have no cameras: take gaussian or uniform")
        return labels.cpu()[torch.randint(len(labels), (count,), generator=generator)]
    draw = torch.randn if options["kind"] == "gaussian" else torch.rand
    numbers = draw(2, count, generator=generator)
    yaw, pitch = numbers if options["kind"] == "gaussian" else numbers * 2 - 1
    return cameras(yaw * options["yaw"], pitch * options["pitch"], options, size)


def focal_in_pixels(camera: Float[Tensor, "b 25"], size: int) -> Float[Tensor, " b"]:
    """Return the focal length of cameras for images of a size."""
    return camera[:, 16] * size


def some_cameras(source: Any, count: int) -> Float[Tensor, "n 25"]:
    """Return cameras of training images, spread evenly over the data set.

    Raises:
        UserError: if the images have none.
    """
    cameras = getattr(source, "cameras", None)
    if cameras is None:
        raise UserError("poses.kind is labels, but the data have no cameras: take gaussian or uniform")
    return torch.as_tensor(cameras)[torch.linspace(0, len(source) - 1, count).long()].float()
