"""Guidance between two condition sets; classifier-free guidance (Ho and Salimans 2022) is that from no conditions."""

import torch
from torch import Tensor

from networks.diffusion.conditions import Conditions, DiffusionNetwork, Predict, concatenated


def guided(
    network: DiffusionNetwork, conditions: Conditions | None, base: Conditions | None = None, weight: float = 1.0
) -> Predict:
    """Return what predicts w eps(x, conditions) + (1 - w) eps(x, base), with one call of the network for both.

    Conditions that are in both sets keep the weight 1. As the weights sum to one, the same equation holds for
    predictions of v and of x_0. A weight of 1 or 0 calls the network on one set alone.

    Args:
        network: the denoiser.
        conditions: the set that is emphasized, None for no conditions.
        base: the set that is guided away from, None for no conditions.
        weight: w.
    """
    if weight in (0, 1):
        chosen = conditions if weight == 1 else base
        return lambda x, timesteps: network(x, timesteps, chosen)
    pair = concatenated(base or Conditions(), conditions or Conditions())

    def predict(x: Tensor, timesteps: Tensor) -> Tensor:
        output = network(torch.cat([x, x]), torch.cat([timesteps, timesteps]), pair)
        of_base, of_conditions = output.to(x.dtype).chunk(2)
        return torch.lerp(of_base, of_conditions, weight)

    return predict
