"""Style mixing: late layers take the latent of another sample (Karras et al. 2019, section 3.1)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from networks.noise import BatchNoise


def draw_cutoffs(count: int, layers: int, probability: float, noise: BatchNoise) -> Int[Tensor, " b"]:
    """Return for every sample the first layer that takes the other latent, `layers` for none.

    A sample is mixed with `probability`, and then from a layer drawn evenly from 1 to `layers` - 1. Samples are drawn
    one by one (our choice; the references draw once for a batch), so that a sample does not depend on the batch size.
    With fewer than two layers nothing is mixed.

    Args:
        count: number of this process's samples.
        layers: number of latents of a sample, `num_ws`.
        probability: share of mixed samples; 0.9 in StyleGAN2.
        noise: the batch's noise.
    """
    is_mixed = noise.uniform("is_mixed", (count,)) < probability
    first = noise.integers("cutoff", 1, max(2, layers), (count,))
    return torch.where(is_mixed & (first < layers), first, layers)


def mix_styles(
    ws: Float[Tensor, "b n w"], other: Float[Tensor, "b n w"], cutoffs: Int[Tensor, " b"]
) -> Float[Tensor, "b n w"]:
    """Return latents of which each sample's layers from its cutoff on are the other's."""
    layer = torch.arange(ws.shape[1], device=ws.device)
    is_other = layer >= cutoffs.to(ws.device)[:, None]
    return torch.where(is_other[..., None], other, ws)
