"""One batch over all processes: every process holds an equal, contiguous part of it, in the order of ranks."""

from typing import Any

import torch
from torch import Tensor, distributed
from torch.nn import functional


def rank_and_world() -> tuple[int, int]:
    """Return the number of this process and that of all; (0, 1) where none are connected."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def rank_part(count: int, rank: int) -> slice:
    """Return the part of the global batch that a process holds, if each holds `count` samples."""
    return slice(rank * count, (rank + 1) * count)


class _SumOverRanks(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of theirs, and can be differentiated again."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:  # noqa: ARG004
        total = tensor.contiguous().clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        return _SumOverRanks.apply(gradients[0])


def gather_batch(part: Tensor) -> Tensor:
    """Return the global batch [n * b, ...] of all n processes' equal parts [b, ...], on every process.

    The gradient of a part is the sum over what all processes made of it, and can be differentiated again, as R1 needs.
    """
    rank, world = rank_and_world()
    if world == 1:
        return part
    before, after = rank * len(part), (world - 1 - rank) * len(part)
    # torch's own gathers with gradients are deprecated or cannot be differentiated twice.
    return _SumOverRanks.apply(functional.pad(part, [0, 0] * (part.dim() - 1) + [before, after]))
