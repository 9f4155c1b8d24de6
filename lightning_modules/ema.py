"""The exponential moving average of the weights, with which images are drawn."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """Return a moving average of a network's weights, kept in checkpoints as a module.

    After n updates the decay is (1 + n) / (10 + n), never above `decay`, so that the first weights are soon forgotten.
    """
    average = AveragedModel(network, multi_avg_fn=_blend(decay))
    return average.requires_grad_(False)


def _blend(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    @torch.no_grad()
    def blend(averages: Tensors, current: Tensors, updates: Tensor | int) -> None:
        kept = min(decay, (1 + float(updates)) / (10 + float(updates)))
        torch._foreach_lerp_(averages, current, 1 - kept)

    return blend
