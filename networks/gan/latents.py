"""Latents that depend on seeds and indices alone, on any number of processes and at any batch size."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def sample_latents(seed: int, indices: Sequence[int], z_dim: int) -> Float[Tensor, "n z"]:
    """Return the latents of samples on the CPU; the k-th of a seed is the same whichever others are asked for.

    Args:
        seed: of the samples, such as `stream_seed(seed)`.
        indices: of the samples, from 0.
        z_dim: size of a latent.
    """
    generator = torch.Generator().manual_seed(seed)
    # One by one: how torch draws many numbers depends on how many are asked for.
    drawn = [torch.randn(z_dim, generator=generator) for _ in range(max(indices, default=-1) + 1)]
    return torch.stack([drawn[k] for k in indices]) if len(indices) else torch.empty(0, z_dim)
