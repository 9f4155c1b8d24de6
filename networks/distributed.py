"""What processes that train together tell each other; each function is the identity in a single process."""

from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist
from torch.nn import functional

T = TypeVar("T")


def world_size() -> int:
    """Return the number of processes, 1 outside of distributed training."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, 0 outside of distributed training."""
    return dist.get_rank() if world_size() > 1 else 0


def rank_part(count: int, rank: int) -> slice:
    """Return the part of a global batch that a process holds: `count` rows, in the order of ranks."""
    return slice(rank * count, (rank + 1) * count)


def gather_rows(rows: Tensor) -> Tensor:
    """Return the rows of every process, in rank order, without gradient; every process must hold equally many."""
    rows = rows.detach().contiguous()
    if world_size() == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(world_size())]
    dist.all_gather(parts, rows)
    return torch.cat(parts)


def gather_objects(value: T) -> list[T]:
    """Return every process's value, in rank order, on every process."""
    if world_size() == 1:
        return [value]
    parts: list[T] = [value] * world_size()
    dist.all_gather_object(parts, value)
    return parts


def gather_to_first(value: T) -> list[T]:
    """Return every process's value on the first process, an empty list on the others."""
    if world_size() == 1:
        return [value]
    is_first = dist.get_rank() == 0
    parts: list[T] = [value] * world_size()
    dist.gather_object(value, parts if is_first else None, dst=0)
    return parts if is_first else []


def own_positions(count: int) -> range:
    """Return the positions in the global batch of this process's samples; every process must hold equally many."""
    part = rank_part(count, rank())
    return range(part.start, part.stop)


def thinned(positions: range, kept: int, of: int) -> list[int]:
    """Return the positions in a global batch that remain where `kept` in `of` are used: every second one for 1 in 2.

    They are spread evenly, and the same on any number of processes. The first of the batch is always among them; a
    process whose part is smaller than `of` may have none.

    Args:
        positions: of the samples of one process, or of all.
        kept: how many remain, up to `of`.
        of: of how many.
    """
    return [position for position in positions if position * kept % of < kept]


def sum_for_averaged_gradients(values: Tensor) -> Tensor:
    """Return the sum over all processes, for a loss whose gradients DDP averages over the processes.

    The gradient by each process's own values is multiplied by the number of processes, so that after the average it is
    that of the sum.
    """
    if world_size() == 1:
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total + world_size() * (values - values.detach())


def global_mean(values: Tensor) -> Tensor:
    """Return the mean of the values of all processes, however many each holds, as `sum_for_averaged_gradients` does."""
    if world_size() == 1:
        return values.mean()
    return sum_for_averaged_gradients(values.sum()) / _number(values)


def mean_over_mask(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over the mask of the values of all processes, 0 where it is empty, as `global_mean` does.

    Args:
        values: the values.
        mask: their weights, of the same shape and without gradient.
    """
    total = sum_for_averaged_gradients((values * mask).sum())
    return total / sum_for_averaged_gradients(mask.sum()).clamp_min(1)


def _number(values: Tensor) -> Tensor:
    number = torch.full((), values.numel(), dtype=torch.float32, device=values.device)
    dist.all_reduce(number)
    return number


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of theirs, and can be differentiated again."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: ARG004
        total = values.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        return _SumOverProcesses.apply(gradients[0])


def global_mean_with_gradient(values: Tensor) -> Tensor:
    """Return the mean of the values of all processes, for use in a loss of which every process computes a part.

    The gradient by each process's own values is the sum of what all processes made of the mean, see
    `gather_rows_with_gradient`; processes may hold unequally many values.
    """
    return values.mean() if world_size() == 1 else _SumOverProcesses.apply(values.sum()) / _number(values)


def gather_rows_with_gradient(rows: Tensor) -> Tensor:
    """Return the rows of every process, in rank order; every process must hold equally many, and call it.

    The gradient by each process's own rows is the sum of what all processes made of them, so that after DDP's average
    it is that of the mean over processes; it can be differentiated again, as R1 needs.
    """
    if world_size() == 1:
        return rows
    before, after = rank() * len(rows), (world_size() - 1 - rank()) * len(rows)
    # torch's own gathers with gradients are deprecated or cannot be differentiated twice.
    return _SumOverProcesses.apply(functional.pad(rows, [0, 0] * (rows.dim() - 1) + [before, after]))
