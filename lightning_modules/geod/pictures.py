"""What players make: samples with depth, normals and turned views, a turntable, and readings of real images."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torchvision.utils import make_grid

from lightning_modules.geod.geometry import normals_of_depth
from lightning_modules.geod.inverse_renderer import InverseRenderer
from lightning_modules.geod.players import Generator
from lightning_modules.geod.poses import PoseOptions, focal_in_pixels, turned_cameras
from networks.volume_rendering import Rendering

Pixels = NDArray[np.uint8]


def normals_shown(normals: Float[Tensor, "b h w 3"]) -> Float[Tensor, "b 3 h w"]:
    """Return outward normals as colours in -1..1: red to the right, green down, blue towards the camera."""
    # Ours point into the object, along the view.
    return normals.permute(0, 3, 1, 2) * normals.new_tensor([-1, -1, 1])[:, None, None]


def depth_shown(depth: Float[Tensor, "b h w"]) -> Float[Tensor, "b 3 h w"]:
    """Return depth maps as grey images in -1..1, each by its own range: the nearest is white."""
    low, high = depth.amin(dim=(1, 2), keepdim=True), depth.amax(dim=(1, 2), keepdim=True)
    return (1 - 2 * (depth - low) / (high - low).clamp_min(1e-6))[:, None].expand(-1, 3, -1, -1)


def table(rows: Sequence[Float[Tensor, "n 3 h w"]], side: int = 64) -> Pixels:
    """Return rows of images in -1..1 as one picture uint8 [h, w, 3], every image at least `side` pixels large."""
    grown = [row.float().cpu() for row in rows]
    size = max(side, *(row.shape[-1] for row in grown))
    grown = [functional.interpolate(row, (size, size), mode="nearest") for row in grown]
    grid = make_grid((torch.cat(grown).clamp(-1, 1) + 1) / 2, nrow=len(grown[0]), padding=2, pad_value=1.0)
    return (grid * 255).round().byte().permute(1, 2, 0).numpy()


class Views:
    """A generator's samples, seen from wherever an object is turned to.

    Args:
        generator: in eval mode.
        z: latents [n, d].
        poses: see `PoseOptions`.
        labels: cameras of the training images, or None.
    """

    def __init__(
        self, generator: Generator, z: Float[Tensor, "n z"], poses: PoseOptions, labels: Float[Tensor, "m 25"] | None
    ) -> None:
        self.generator, self.poses, self.labels, self.count = generator, poses, labels, len(z)
        # How far objects are turned, in radians.
        self.width = 0.4 if poses["kind"] == "labels" else max(0.3, 2 * poses["yaw"])
        self.field = generator.field(z, self.camera(0.0, 0.0), "const")

    def camera(self, yaw: float, pitch: float) -> Float[Tensor, "n 25"]:
        """Return the camera that sees every object turned."""
        device = next(self.generator.parameters()).device
        turn = torch.tensor([[yaw, pitch]], device=device)
        one = turned_cameras(turn, self.poses, self.generator.raw_size, self.labels)
        return one.expand(self.count, -1)

    def seen(self, yaw: float = 0.0, pitch: float = 0.0) -> tuple[Rendering, Float[Tensor, "n h w 3"]]:
        """Return what is seen of the objects turned by angles in radians, and its normals."""
        camera = self.camera(yaw, pitch)
        rendering = self.generator.render(self.field, camera, jitter=False)
        return rendering, normals_of_depth(rendering.depth, focal_in_pixels(camera, self.generator.raw_size))


@torch.no_grad()
def samples_figure(views: Views) -> Pixels:
    """Return rows of samples: front, its depth and normals, and the views from both sides and from above."""
    front, normals = views.seen()
    rows = [front.image, depth_shown(front.depth), normals_shown(normals)]
    turns = ((-views.width, 0.0), (views.width, 0.0), (0.0, views.width / 2))
    return table([*rows, *(views.seen(*turn)[0].image for turn in turns)])


@torch.no_grad()
def write_turntable(path: Path, views: Views, frames: int = 24) -> None:
    """Write a GIF of samples, and of their normals below, swung from side to side."""
    shown = []
    for frame in range(frames):
        rendering, normals = views.seen(views.width * math.sin(2 * math.pi * frame / frames))
        shown.append(Image.fromarray(table([rendering.image, normals_shown(normals)])))
    path.parent.mkdir(parents=True, exist_ok=True)
    shown[0].save(path, save_all=True, append_images=shown[1:], duration=80, loop=0)


@torch.no_grad()
def reading_figure(renderer: InverseRenderer, batch: Mapping[str, Any], count: int = 8) -> Pixels:
    """Return rows of a reading: image, reconstruction, albedo, canonical depth, normals and, if known, true normals."""
    image = batch["image"][:count]
    reading = renderer(image)
    n = len(image)
    rows = [
        image,
        reading.reconstruction[:n],
        reading.albedo[:n],
        depth_shown(reading.shape.canonical[:n]),
        normals_shown(reading.shape.normals),
    ]
    if "depth" in batch:
        depth = batch["depth"][:count]
        rows.append(normals_shown(normals_of_depth(depth, focal_in_pixels(batch["camera"][:count], depth.shape[-1]))))
    return table(rows)
