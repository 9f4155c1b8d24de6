"""Pictures of the subject's class, which the base itself draws once; they keep its prior (cones §2.2)."""

from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from common.files import atomic_write
from common.hashing import digest
from lightning_modules.cones.image_generation import PromptSampler


def class_images(
    sampler: PromptSampler, prompt: str, count: int, side: int, *, base: str, folder: Path, seed: int = 0
) -> Float[Tensor, "n 3 h w"]:
    """Return images of a prompt in -1..1 as the base draws them, from a file if they were drawn before.

    Args:
        sampler: draws images of the base.
        prompt: names the class.
        count: how many.
        side: side of an image in pixels.
        base: hash of the base.
        folder: where drawn images are kept, by base, prompt and the sampler's options.
        seed: seed of the noise.
    """
    key = digest(repr((base, prompt, count, side, sampler.guidance, sampler.steps, seed)))
    path = folder / f"{key}.safetensors"
    if path.is_file():
        try:
            return load_file(path)["images"].float() / 127.5 - 1
        except (SafetensorError, KeyError):
            # A broken file is drawn again.
            path.unlink()
    images = torch.cat([part.cpu() for part in sampler.images([prompt] * count, side, side, seed)])
    pixels = ((images + 1) * 127.5).round().to(torch.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        save_file({"images": pixels}, temporary, metadata={"prompt": prompt, "base": base})
    return pixels.float() / 127.5 - 1
