"""How far apart two clips are, frame by frame: the metric between queries and prototypes (§2.6).

Every metric takes prototypes [b, n, t, d] and queries [b, q, t, d]; distances [b, q, n] are in single precision.
"""

import math
from itertools import combinations
from typing import Annotated, Any, Literal, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from common.ranges import Range
from networks.precision import single_precision

Metric = Literal["otam", "bi_mhm", "trx"]


class AlignmentOptions(TypedDict):
    """`metric`: otam, bi_mhm or trx; `smoothness` (1e-3 or more) and `bidirectional` are OTAM's."""

    metric: Metric
    # Below it, distances over lambda come near to what stands for no path.
    smoothness: Annotated[float, Range(low=1e-3)]
    bidirectional: bool


# Larger than any sum of distances over lambda, and no infinity: a difference of two is a number.
_FAR = 1e6
# Beyond which an exponential is as good as 0; its slow form for large numbers is spared.
_NOTHING = 80.0


def frame_distances(
    queries: Float[Tensor, "b q t d"], prototypes: Float[Tensor, "b n s d"]
) -> Float[Tensor, "b q n t s"]:
    """Return 1 - cosine between all frames of queries and prototypes, with 0.01 added to the product of norms."""
    norms = queries.norm(dim=-1)[:, :, None, :, None] * prototypes.norm(dim=-1)[:, None, :, None, :]
    return 1 - torch.einsum("bqtd,bnsd->bqnts", queries, prototypes) / (norms + 0.01)


def otam(distances: Float[Tensor, "*b t s"], smoothness: float) -> Float[Tensor, " *b"]:
    """Return the length of the soft shortest path through matrices of frame distances, ordered in time (OTAM).

    A path begins and ends anywhere in the columns: they are padded by one of zeros on both sides. Cells of an
    anti-diagonal need only the two before it, so all of them are found at once, for all matrices.

    Args:
        distances: rows are the frames whose order leads.
        smoothness: lambda of the soft minimum, -lambda log sum exp(-x / lambda).
    """
    rows, columns = distances.shape[-2], distances.shape[-1] + 2
    batch, count = distances.shape[:-2], rows + columns - 1
    # Row l of the padded matrix is moved l places to the right, so that an anti-diagonal is a column.
    padded = functional.pad(distances.flatten(0, -3) if batch else distances[None], (1, 1 + rows))
    diagonals = padded.flatten(1)[:, : rows * count].unflatten(1, (rows, count)).permute(2, 1, 0)
    return _SoftPath.apply(diagonals, columns, smoothness).reshape(batch)


class _SoftPath(torch.autograd.Function):
    """The recursion over anti-diagonals [k, l, b], and its derivative by hand: autograd would keep every step of it."""

    @staticmethod
    def forward(ctx: Any, diagonals: Tensor, columns: int, smoothness: float) -> Tensor:
        count, rows, _ = diagonals.shape
        column = torch.arange(count, device=diagonals.device)[:, None, None] - torch.arange(
            rows, device=diagonals.device
        ).view(1, -1, 1)
        # A step straight down is for the padded columns only, and for the first beside them.
        is_down, is_start = (column == 1) | (column == columns - 1), column <= 0
        down = torch.zeros_like(is_down, dtype=diagonals.dtype).masked_fill_(~is_down, -_FAR)
        scaled = diagonals / -smoothness
        # Lengths over -lambda, two empty diagonals first and an empty row above, so that all neighbours are views.
        table = scaled.new_full((count + 2, rows + 1, scaled.shape[-1]), -_FAR)
        above, own = table[:, :-1].unbind(), table[:, 1:].unbind()
        steps = zip(scaled.unbind(), down.unbind(), is_start.unbind(), strict=True)
        for k, (length, straight, starts) in enumerate(steps):
            nearest = torch.logaddexp(torch.logaddexp(own[k + 1], above[k]), above[k + 1] + straight)
            torch.add(nearest, length, out=own[k + 2]).masked_fill_(starts, 0.0)
        ctx.save_for_backward(scaled, table, down, is_start)
        return table[-1, -1] * -smoothness

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        scaled, table, down, is_start = ctx.saved_tensors
        nearest = table[2:, 1:] - scaled
        # How much of a cell's path comes from each of its neighbours; none does where a path starts.
        left, up, aslant = (
            (before - nearest).clamp_(min=-_NOTHING).exp_().masked_fill_(is_start, 0.0)
            for before in (table[1:-1, 1:], table[1:-1, :-1] + down, table[:-2, :-1])
        )
        # How much of the whole path runs through each cell, two empty diagonals behind and an empty row below.
        share = functional.pad(torch.zeros_like(scaled), (0, 0, 0, 1, 0, 2))
        own, below = share[:, :-1].unbind(), share[:, 1:].unbind()
        own[-3][-1] = gradient
        # The same tables from the side of the cell that is come from: of the next diagonal, of the row below.
        left, up, aslant = (functional.pad(x, (0, 0, 0, 1, 0, 2)) for x in (left, up, aslant))
        ways = zip(left[1:, :-1].unbind(), up[1:, 1:].unbind(), aslant[2:, 1:].unbind(), strict=False)
        for k, (right, down_, slanted) in reversed(list(enumerate(ways))[: len(scaled) - 1]):
            torch.mul(own[k + 1], right, out=own[k]).addcmul_(below[k + 1], down_).addcmul_(below[k + 2], slanted)
        return share[:-2, :-1].masked_fill(is_start, 0.0), None, None


class OTAM(nn.Module):
    """Ordered temporal alignment (Cao et al. 2020), from the query's side and from the prototype's.

    Args:
        smoothness: lambda of the soft minimum.
        bidirectional: whether the other clip leads as well; else only the query does.
    """

    def __init__(self, smoothness: float, *, bidirectional: bool) -> None:
        super().__init__()
        self.smoothness, self.bidirectional = smoothness, bidirectional

    def forward(
        self, prototypes: Float[Tensor, "b n s d"], queries: Float[Tensor, "b q t d"]
    ) -> Float[Tensor, "b q n"]:
        """Return distances; they may be negative."""
        with single_precision(queries):
            found = frame_distances(queries.float(), prototypes.float())
            if not self.bidirectional:
                return otam(found, self.smoothness)
            if found.shape[-2] != found.shape[-1]:
                return otam(found, self.smoothness) + otam(found.mT, self.smoothness)
            return otam(torch.stack([found, found.mT]), self.smoothness).sum(dim=0)


class BiMHM(nn.Module):
    """Sum of the distances to the nearest frames from both sides, whatever their order (HyRSM, Wang et al. 2022)."""

    def forward(
        self, prototypes: Float[Tensor, "b n s d"], queries: Float[Tensor, "b q t d"]
    ) -> Float[Tensor, "b q n"]:
        """Return distances."""
        with single_precision(queries):
            found = frame_distances(queries.float(), prototypes.float())
            return found.amin(dim=-1).sum(dim=-1) + found.amin(dim=-2).sum(dim=-1)


class TRX(nn.Module):
    """Ordered pairs and triples of frames, each of a query against what resembles it in the prototype (TRX, 2021).

    Args:
        size: size d of frame features.
        frames: frames of a clip.
        width: size of keys and values.
        dropout: dropout after the places of the frames are added.
    """

    places: Tensor

    def __init__(self, size: int, frames: int, width: int = 1152, dropout: float = 0.1) -> None:
        super().__init__()
        self.register_buffer("places", 0.1 * _sinusoids(frames, size), persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.tuples = nn.ModuleList(_Tuples(size, frames, count, width) for count in (2, 3))

    def forward(
        self, prototypes: Float[Tensor, "b n s d"], queries: Float[Tensor, "b q t d"]
    ) -> Float[Tensor, "b q n"]:
        """Return distances, the mean of both kinds of tuples."""
        prototypes, queries = (self.dropout(x + self.places) for x in (prototypes, queries))
        return torch.stack([part(prototypes, queries) for part in self.tuples]).mean(dim=0)


class _Tuples(nn.Module):
    """Tuples of `count` frames in their order."""

    chosen: Tensor

    def __init__(self, size: int, frames: int, count: int, width: int) -> None:
        super().__init__()
        chosen = torch.tensor(list(combinations(range(frames), count)))
        self.register_buffer("chosen", chosen, persistent=False)
        self.keys, self.values = nn.Linear(size * count, width), nn.Linear(size * count, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, prototypes: Tensor, queries: Tensor) -> Tensor:
        ours, theirs = (x[:, :, self.chosen].flatten(-2) for x in (queries, prototypes))
        query, key = self.norm(self.keys(ours)), self.norm(self.keys(theirs))
        with single_precision(query):
            scores = torch.einsum("bqid,bnjd->bqnij", query.float(), key.float()) / math.sqrt(query.shape[-1])
            seen = torch.einsum("bqnij,bnjd->bqnid", scores.softmax(dim=-1), self.values(theirs).float())
            off = self.values(ours).float()[:, :, None] - seen
            return off.square().sum(dim=(-2, -1)) / len(self.chosen)


def _sinusoids(count: int, size: int) -> Float[Tensor, "t d"]:
    rate = torch.exp(torch.arange(0, size, 2) * (-math.log(10000.0) / size))
    angles = torch.arange(count)[:, None] * rate
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def build_alignment(options: AlignmentOptions, size: int, frames: int) -> nn.Module:
    """Return the metric that the options name, for clips of so many frames with features of a size."""
    if options["metric"] == "otam":
        return OTAM(options["smoothness"], bidirectional=options["bidirectional"])
    return BiMHM() if options["metric"] == "bi_mhm" else TRX(size, frames)
