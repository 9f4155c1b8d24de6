"""Loaders whose batches depend on (seed, epoch, position) alone, so that a run can stop and go on anywhere.

A batch is planned globally and then divided over the ranks, so the order of samples is the same on any number of
processes, and augmentation noise is drawn from (seed, epoch, sample index), so it is the same in any worker.
"""

import multiprocessing
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from common.errors import UserError

Batch = dict[str, Any]


@runtime_checkable
class Fetches(Protocol):
    """A data set held in memory that can return many samples at once, already collated."""

    def fetch(self, indices: list[int]) -> Batch:
        """Return the batch of these samples, every value with a leading batch axis."""
        ...


class Draw(NamedTuple):
    """One sample to load: which source, in which epoch of that source, at which index."""

    source: str
    epoch: int
    index: int  # type: ignore[assignment]


def mix(*numbers: int) -> int:
    """Mix whole numbers into one 63-bit seed that changes wholly when any of them changes by one."""
    state = np.random.SeedSequence([n & 0xFFFFFFFFFFFFFFFF for n in numbers]).generate_state(1, np.uint64)
    return int(state[0]) >> 1


class BatchPlan:
    """Batch sampler over one leading source and any number of sources that cycle beside it.

    The leading source (the first) sets the length of an epoch; the others (outliers, say) go round in their own
    shuffled order, counted from the start of training, so they go on where they stopped.

    Args:
        sizes: number of samples of each source; the first is the leading one.
        batch_sizes: global batch of each source, divided over the ranks.
        seed: seed of the permutations.
        shuffle: whether to permute; without it the order is that of the index.
        drop_last: whether the last, smaller batch of an epoch is left out.
        rank: index of this process.
        world: number of processes.

    Raises:
        UserError: if a source is empty, smaller than one full batch, or its batch is not divisible by `world`.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        batch_sizes: Mapping[str, int],
        *,
        seed: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        for name, size in sizes.items():
            batch = batch_sizes[name]
            if size < (batch if drop_last else 1):
                msg = f"{name or 'the data'} has {size} samples, fewer than one batch of {batch}: lower data.batch_size"
                raise UserError(msg)
            if shuffle and batch % world:
                msg = f"the global batch of {batch} cannot be divided over {world} processes"
                raise UserError(msg)
        self.sizes, self.batch_sizes = dict(sizes), dict(batch_sizes)
        self.lead = next(iter(sizes))
        self.seed, self.shuffle, self.drop_last = seed, shuffle, drop_last
        self.rank, self.world = rank, world
        self.epoch = 0
        self._resumed = (0, 0)
        self._orders: dict[str, tuple[int, np.ndarray]] = {}

    @property
    def sampler(self) -> "BatchPlan":
        """The plan itself: Lightning looks for `set_epoch` on a batch sampler's sampler only."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation of the next pass (Lightning calls this at the start of every epoch)."""
        # An evaluation is the same in every epoch.
        self.epoch = epoch if self.shuffle else 0

    def start_at(self, epoch: int, batch: int) -> None:
        """Leave out the first `batch` batches of `epoch`, which were done before a restart.

        Loader workers ask for batches before Lightning sets the epoch, so the epoch is chosen here too.
        """
        self.epoch, self._resumed = epoch, (epoch, batch)

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch, wherever this pass starts."""
        size, batch = self.sizes[self.lead], self.batch_sizes[self.lead]
        return size // batch if self.drop_last else -(-size // batch)

    def _order(self, source: str, epoch: int) -> np.ndarray:
        held = self._orders.get(source)
        if held is None or held[0] != epoch:
            # The order before is let go first, and numbers are small: sources may have tens of millions of samples.
            self._orders.pop(source, None)
            order = np.arange(self.sizes[source], dtype=np.uint32)
            if self.shuffle:
                salt = list(self.sizes).index(source)
                np.random.default_rng(mix(self.seed, salt, epoch)).shuffle(order)
            held = self._orders[source] = epoch, order
        return held[1]

    def _cycled(self, source: str, first: int, count: int) -> list[Draw]:
        size = self.sizes[source]
        return [
            Draw(source, place // size, int(self._order(source, place // size)[place % size]))
            for place in range(first, first + count)
        ]

    def _mine(self, draws: list[Draw]) -> list[Draw]:
        """Return the share of this rank: equal parts of a full batch, nearly equal ones of a last batch."""
        return [
            draws[i] for i in range(self.rank * len(draws) // self.world, (self.rank + 1) * len(draws) // self.world)
        ]

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yield this rank's draws of every batch of the epoch, less those done before a restart."""
        epoch = self.epoch
        first = self._resumed[1] if epoch == self._resumed[0] else 0
        order, batch = self._order(self.lead, epoch), self.batch_sizes[self.lead]
        for step in range(first, len(self)):
            chosen = order[step * batch : (step + 1) * batch].tolist()
            draws = self._mine([Draw(self.lead, epoch, index) for index in chosen])
            for name in list(self.sizes)[1:]:
                count = self.batch_sizes[name]
                done = (epoch * len(self) + step) * count
                draws += self._mine(self._cycled(name, done, count))
            yield draws


class Mixture(Dataset[Any]):
    """Several sources under one loader: the leading source's fields, and each other source's image under its name.

    A source is a map-style data set of dicts (`image`, `label`, ...), or one that `fetch`es whole batches. The sample's
    index is added as `index`, so that whatever is computed from a batch can be put back in order.
    """

    def __init__(self, sources: Mapping[str, Any], seed: int) -> None:
        self.sources, self.seed = dict(sources), seed

    def _load(self, name: str, draws: list[Draw]) -> Batch:
        source = self.sources[name]
        if not draws:
            # A rank's share of a last batch may be empty; a sample tells the shapes it would have had.
            return {key: value[:0] for key, value in self._load(name, [Draw(name, 0, 0)]).items()}
        if isinstance(source, Fetches):
            batch = source.fetch([draw.index for draw in draws])
        else:
            salt = list(self.sources).index(name)
            samples = []
            with torch.random.fork_rng(devices=[]):
                for draw in draws:
                    torch.default_generator.manual_seed(mix(self.seed, salt, draw.epoch, draw.index))
                    samples.append(source[draw.index])
            batch = default_collate(samples)
        return batch | {"index": torch.tensor([draw.index for draw in draws], dtype=torch.int64)}

    def __getitems__(self, draws: list[Draw]) -> Batch:
        """Return the collated batch of these draws."""
        names = list(self.sources)
        batch = self._load(names[0], [draw for draw in draws if draw.source == names[0]])
        for name in names[1:]:
            batch[name] = self._load(name, [draw for draw in draws if draw.source == name])["image"]
        return batch


def _as_is(batch: Any) -> Any:
    return batch


def make_loader(mixture: Mixture, plan: BatchPlan, *, num_workers: int = 0) -> DataLoader[Any]:
    """Return the loader of a mixture in the order of a plan."""
    # joblib's processes would start workers in joblib's way, which loaders cannot use: the first is the platform's own.
    own = multiprocessing.get_all_start_methods()[0] if num_workers else None
    return DataLoader(
        mixture,
        multiprocessing_context=own,
        batch_sampler=plan,
        collate_fn=_as_is,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        # An own generator: making an iterator must not draw from the generator the training noise comes from.
        generator=torch.Generator(),
    )
