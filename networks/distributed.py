"""What processes that train together tell each other; each function is the identity in a single process."""

from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

T = TypeVar("T")


def world_size() -> int:
    """Return the number of processes, 1 outside of distributed training."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


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
