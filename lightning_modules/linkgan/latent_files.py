"""Files that inversion reads and writes: pictures, and latents that belong to one generator (linkgan §2.9)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from common.errors import UserError
from lightning_modules.linkgan.editing import EditableGenerator
from lightning_modules.linkgan.inversion import Projection
from networks.weights.forms import read_weights
from tuners.tuner import weights_hash

_KEY = "sample.latent"
_WRITER = "linkgan"


def read_picture(path: str, channels: int, side: int) -> Float[Tensor, "1 c h w"]:
    """Return a picture in -1..1: the square in its middle, resized (Lanczos) as in stylegan2-ada-pytorch's projector.

    Args:
        path: a file that Pillow reads.
        channels: 1 for gray, 3 for color.
        side: side of the result.

    Raises:
        UserError: if there is no such file or it is not a whole picture.
    """
    if not Path(path).is_file():
        raise UserError(f"sample.invert: no file {path}; give a picture, or test:0 for the first of the test split")
    try:
        with Image.open(path) as file:
            picture = file.convert("RGB" if channels == 3 else "L")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise UserError(f"sample.invert: {path} is not a whole picture") from None
    short = min(picture.size)
    left, top = ((length - short) // 2 for length in picture.size)
    square = picture.crop((left, top, left + short, top + short)).resize((side, side), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.asarray(square).copy()).reshape(side, side, channels).permute(2, 0, 1)
    return pixels[None].float() / 127.5 - 1


def generator_hash(generator: EditableGenerator) -> str:
    """Return a hash of a generator's weights, in their order."""
    found = weights_hash({f"{place:04d}": value for place, value in enumerate(generator.parameters())})
    assert found is not None
    return found


def latent_bytes(projection: Projection, generator: EditableGenerator, picture: str) -> bytes:
    """Return a safetensors file with the latents and noise maps of a picture and the hash of their generator."""
    tensors = {"ws": projection.ws} | {f"noise.{k}": part for k, part in enumerate(projection.noise)}
    told = {"base": generator_hash(generator), "picture": picture, "distance": projection.distance}
    plain = {name: value.cpu().contiguous() for name, value in tensors.items()}
    return save(plain, metadata={_WRITER: json.dumps(told)})


def read_latent(path: str, generator: EditableGenerator, device: torch.device) -> Projection:
    """Return the projection in a file of `latent_bytes`.

    Args:
        path: the file.
        generator: the generator that it has to belong to.
        device: where the generator is.

    Raises:
        UserError: if the file is missing or damaged, is something else, or belongs to another generator.
    """
    tensors, told = read_weights(path, _KEY).tensors, _told(path)
    names = ["ws", *(f"noise.{k}" for k in range(len(generator.noise_sides)))]
    shapes = [(1, generator.num_ws, generator.w_dim), *((1, 1, side, side) for side in generator.noise_sides)]
    if told is None or "ws" not in tensors:
        raise UserError(f"{_KEY}: {path} is not a latent that sample.invert has written (latent.safetensors)")
    if told.get("base") != (local := generator_hash(generator)):
        raise UserError(
            f"{_KEY}: {path} belongs to another generator ({told.get('base')}, this one is {local}): invert the"
            " picture again"
        )
    if [tuple(tensors[name].shape) for name in names if name in tensors] != shapes:
        raise UserError(f"{_KEY}: {path} is damaged, a latent of this generator has {', '.join(names)}")
    ws, *noise = (tensors[name].float().to(device) for name in names)
    return Projection(ws, noise, float(told.get("distance", "nan")))


def _told(path: str) -> dict[str, Any] | None:
    """Return what a file says of itself, None for a file of something else."""
    try:
        with safe_open(path, framework="pt") as file:
            told = json.loads((file.metadata() or {}).get(_WRITER, "null"))
    except (OSError, ValueError, SafetensorError):
        return None
    return told if isinstance(told, dict) else None
