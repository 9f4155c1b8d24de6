"""The minibatch standard deviation that shows a discriminator how much its samples differ (Karras et al. 2018)."""

import math
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from networks.distributed import gather_rows_with_gradient, rank, rank_part, world_size

Grouping = Literal["strided", "contiguous"]


def minibatch_deviation(
    x: Float[Tensor, "b c h w"], group: int, grouping: Grouping = "strided"
) -> Float[Tensor, "b 1 h w"]:
    """Return a map for every sample: the deviation over its group, averaged over channels and pixels.

    "strided" is stylegan2-ada-pytorch's: the m groups of this process's samples are those with equal index modulo m, so
    that who is in a group depends on the number of processes. "contiguous" forms groups of neighbors in the GLOBAL
    batch, of which every process holds an equal, contiguous part in the order of ranks: a sample's map is the same on
    any number of processes. Processes exchange features only where a group spans two of them; gradients, also those of
    R1's second backward pass, then reach the samples of all processes.

    Args:
        x: feature maps of this process.
        group: samples in a group; if it does not divide the batch, their greatest common divisor is taken.
        grouping: see above.
    """
    if grouping == "strided":
        return _strided(x, group)
    size = math.gcd(len(x) * world_size(), group)
    if len(x) % size == 0:
        return _contiguous(x, size)
    return _contiguous(gather_rows_with_gradient(x), size)[rank_part(len(x), rank())]


def _strided(x: Tensor, group: int) -> Tensor:
    batch = len(x)
    # The reference accepts no batch that its groups do not divide; the last one of a test may be any.
    size = math.gcd(batch, group)
    parts = x.float().reshape(size, batch // size, *x.shape[1:])
    deviation = (parts.var(dim=0, correction=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    maps = deviation.to(x.dtype).reshape(1, -1, 1, 1, 1).expand(size, -1, 1, *x.shape[2:])
    return maps.reshape(batch, 1, *x.shape[2:])


def _contiguous(x: Tensor, size: int) -> Tensor:
    parts = x.float().unflatten(0, (-1, size))
    deviation = (parts.var(dim=1, correction=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    return deviation.to(x.dtype).repeat_interleave(size).reshape(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])
