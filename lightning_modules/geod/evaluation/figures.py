"""Figures: samples with depth, normals and turned views, a turntable, and predictions from real images."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from lightning_modules.generated_images import Pixels, image_grid
from lightning_modules.geod.inverse.renderer import InverseRenderer
from networks.cameras import PoseOptions, focal_in_pixels, normals_of_depth, turned_cameras
from networks.gan.generators3d.interface import Generator3D
from networks.gan.generators3d.volume_rendering import Rendering

SIDE = 64
"""Smallest side of an image in a figure, in pixels."""


def color_of_normals(normals: Float[Tensor, "b h w 3"]) -> Float[Tensor, "b 3 h w"]:
    """Return outward normals as colors in -1..1: red to the right, green down, blue towards the camera."""
    # Ours point into the object, along the view.
    return normals.permute(0, 3, 1, 2) * normals.new_tensor([-1, -1, 1])[:, None, None]


def gray_of_depth(depth: Float[Tensor, "b h w"]) -> Float[Tensor, "b 3 h w"]:
    """Return depth maps as gray images in -1..1, each by its own range: the nearest is white."""
    low, high = depth.amin(dim=(1, 2), keepdim=True), depth.amax(dim=(1, 2), keepdim=True)
    return (1 - 2 * (depth - low) / (high - low).clamp_min(1e-6))[:, None].expand(-1, 3, -1, -1)


class Views:
    """A generator's samples, seen with their objects turned by any angle.

    Args:
        generator: in eval mode.
        z: latents [n, d].
        poses: see `PoseOptions`.
        labels: cameras of the training images, or None.
    """

    def __init__(
        self, generator: Generator3D, z: Float[Tensor, "n z"], poses: PoseOptions, labels: Float[Tensor, "m 25"] | None
    ) -> None:
        self.generator, self.poses, self.labels, self.count = generator, poses, labels, len(z)
        # How far objects are turned, in radians.
        self.width = 0.4 if poses["kind"] == "labels" else max(0.3, 2 * poses["yaw"])
        self.field = generator.field(z, self.camera(0.0, 0.0), "const")

    def camera(self, yaw: float, pitch: float) -> Float[Tensor, "n 25"]:
        """Return the camera that sees every object turned."""
        device = next(self.generator.parameters()).device
        turn = torch.tensor([[yaw, pitch]], device=device)
        one = turned_cameras(turn, self.poses, self.generator.neural_resolution, self.labels)
        return one.expand(self.count, -1)

    def render(self, yaw: float = 0.0, pitch: float = 0.0) -> tuple[Rendering, Float[Tensor, "n h w 3"]]:
        """Return renderings of the objects turned by angles in radians, and their normals."""
        camera = self.camera(yaw, pitch)
        rendering = self.generator.render(self.field, camera, jitter=None)
        return rendering, normals_of_depth(rendering.depth, focal_in_pixels(camera, self.generator.neural_resolution))


@torch.no_grad()
def samples_figure(views: Views) -> Pixels:
    """Return rows of samples: front, its depth and normals, and the views from both sides and from above."""
    front, normals = views.render()
    rows = [front.image, gray_of_depth(front.depth), color_of_normals(normals)]
    turns = ((-views.width, 0.0), (views.width, 0.0), (0.0, views.width / 2))
    return image_grid([*rows, *(views.render(*turn)[0].image for turn in turns)], side=SIDE)


@torch.no_grad()
def write_turntable(path: Path, views: Views, frames: int = 24) -> None:
    """Write a GIF of samples, and of their normals below, swung from side to side."""
    pages = []
    for frame in range(frames):
        rendering, normals = views.render(views.width * math.sin(2 * math.pi * frame / frames))
        grid = image_grid([rendering.image, color_of_normals(normals)], side=SIDE)
        pages.append(Image.fromarray(grid))
    path.parent.mkdir(parents=True, exist_ok=True)
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=80, loop=0)


@torch.no_grad()
def prediction_figure(renderer: InverseRenderer, batch: Mapping[str, Any], count: int = 8) -> Pixels:
    """Return rows of predictions: image, reconstruction, albedo, canonical depth, normals and true ones, if known."""
    image = batch["image"][:count]
    prediction = renderer(image)
    n = len(image)
    rows = [
        image,
        prediction.reconstruction[:n],
        prediction.albedo[:n],
        gray_of_depth(prediction.shape.canonical[:n]),
        color_of_normals(prediction.shape.normals),
    ]
    if "depth" in batch:
        depth = batch["depth"][:count]
        rows.append(
            color_of_normals(normals_of_depth(depth, focal_in_pixels(batch["camera"][:count], depth.shape[-1])))
        )
    return image_grid(rows, side=SIDE)
