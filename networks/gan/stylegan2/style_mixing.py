"""Style mixing: late layers take the latent of another sample (Karras et al. 2019, section 3.1)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def draw_cutoffs(count: int, layers: int, probability: float, generator: torch.Generator) -> Int[Tensor, " b"]:
    """Return for every sample the first layer that takes the other latent, `layers` for none.

    A sample is mixed with `probability`, and then from a layer drawn evenly from 1 to `layers` - 1. Samples are drawn
    one by one (our choice; the references draw once for a batch), so that a sample does not depend on the batch size.
    With fewer than two layers nothing is mixed.

    Args:
        count: number of samples.
        layers: number of latents of a sample, `num_ws`.
        probability: share of mixed samples; 0.9 in StyleGAN2.
        generator: of the CPU.
    """
    is_mixed = torch.rand(count, generator=generator) < probability
    first = torch.randint(1, max(2, layers), (count,), generator=generator)
    return torch.where(is_mixed & (first < layers), first, layers)


def mix_styles(
    ws: Float[Tensor, "b n w"], other: Float[Tensor, "b n w"], cutoffs: Int[Tensor, " b"]
) -> Float[Tensor, "b n w"]:
    """Return latents of which each sample's layers from its cutoff on are the other's."""
    layer = torch.arange(ws.shape[1], device=ws.device)
    is_other = layer >= cutoffs.to(ws.device)[:, None]
    return torch.where(is_other[..., None], other, ws)
