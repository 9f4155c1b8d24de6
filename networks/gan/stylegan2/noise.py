"""StyleGAN2's noise as tensors, so that several passes of a generator can share what was drawn."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from networks.noise import BatchNoise


def draw_noise(
    sides: Sequence[int], count: int, noise: BatchNoise, device: torch.device | str = "cpu"
) -> list[Float[Tensor, "b 1 h w"]]:
    """Return noise of deviation one for every convolution of a synthesis network.

    Args:
        sides: sides of the noise, `SynthesisNetwork.noise_sides`.
        count: number of this process's samples.
        noise: the batch's noise, or a part of it for one of several passes.
        device: where the noise is drawn and used.
    """
    return [noise.normal(f"convolution{k}", (count, 1, side, side), device=device) for k, side in enumerate(sides)]
