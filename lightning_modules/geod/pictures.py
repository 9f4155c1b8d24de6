"""What players make: samples with depth, normals and turned views, a turntable, and readings of real images."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from lightning_modules.geod.poses import PoseOptions, cameras, focal_in_pixels

if TYPE_CHECKING:
    from lightning_modules.geod.players import Generator

Pixels = NDArray[np.uint8]


def normals_shown(normals: Float[Tensor, "b h w 3"]) -> Float[Tensor, "b 3 h w"]:
    """Return normals as colours in -1..1: red to the right, green down, blue towards the camera."""
    return normals.permute(0, 3, 1, 2) * normals.new_tensor([1, 1, -1])[:, None, None]


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


def fixed_cameras(
    turns: Sequence[tuple[float, float]], poses: PoseOptions, size: int, device: torch.device
) -> Float[Tensor, "n 25"]:
    """Return cameras that see objects turned by (yaw, pitch) in radians."""
    yaw, pitch = torch.tensor(turns, device=device, dtype=torch.float32).T
    return cameras(yaw, pitch, poses, size)


@torch.no_grad()
def samples_figure(generator: "Generator", z: Float[Tensor, "n z"], poses: PoseOptions) -> Pixels:
    """Return rows of samples: front, its depth and normals, and the views from both sides and from above."""
    size, width = generator.raw_size, max(0.3, 2 * poses["yaw"])
    fields = generator.field(z, fixed_cameras([(0.0, 0.0)] * len(z), poses, size, z.device), "const")
    rows = []
    for turn in ((0.0, 0.0), (-width, 0.0), (width, 0.0), (0.0, width / 2)):
        camera = fixed_cameras([turn] * len(z), poses, size, z.device)
        seen = generator.render(fields, camera, jitter=False)
        rows.append(seen.image)
        if turn == (0.0, 0.0):
            normals = normals_of_depth(seen.depth, focal_in_pixels(camera, size))
            rows += [depth_shown(seen.depth), normals_shown(normals)]
    return table(rows)


@torch.no_grad()
def write_turntable(
    path: Path, generator: "Generator", z: Float[Tensor, "n z"], poses: PoseOptions, frames: int = 24
) -> None:
    """Write a GIF of samples, and of their normals below, swung from side to side."""
    size, width = generator.raw_size, max(0.3, 2 * poses["yaw"])
    fields = generator.field(z, fixed_cameras([(0.0, 0.0)] * len(z), poses, size, z.device), "const")
    shown = []
    for frame in range(frames):
        turn = width * math.sin(2 * math.pi * frame / frames)
        camera = fixed_cameras([(turn, 0.0)] * len(z), poses, size, z.device)
        seen = generator.render(fields, camera, jitter=False)
        normals = normals_of_depth(seen.depth, focal_in_pixels(camera, size))
        shown.append(Image.fromarray(table([seen.image, normals_shown(normals)])))
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
