"""StyleGAN2's noise as tensors, so that several passes of a generator can share what was drawn."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def draw_noise(
    sides: Sequence[int],
    count: int,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> list[Float[Tensor, "b 1 h w"]]:
    """Return noise of deviation one for every convolution of a synthesis network.

    Args:
        sides: sides of the noise, `SynthesisNetwork.noise_sides`.
        count: number of samples.
        generator: what draws, on its own device; torch's default generator of `device` unless given.
        device: where the noise is used; that of the generator unless given.
    """
    source = device if generator is None else generator.device
    drawn = [torch.randn(count, 1, side, side, generator=generator, device=source) for side in sides]
    return [noise.to(device) for noise in drawn]
