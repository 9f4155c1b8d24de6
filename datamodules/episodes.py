"""Episodes of few-shot learning: a few classes, a few labelled clips of each, and clips to be told apart.

Training draws an episode whenever asked for one; which, depends on (seed, epoch, place) alone. Validation and test
draw theirs from a list of labels, so that features of every clip are computed once, and episodes cost nothing.
"""

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from common.errors import UserError
from common.ranges import NonNegativeInt, PositiveInt, Range
from datamodules.base import BaseDataModule
from datamodules.loading import Batch, mix

Ints = NDArray[np.int64]


class Episodes(NamedTuple):
    """n episodes: the classes' numbers [n, ways], and places of clips, support [n, ways, shots], query [n, ways, q]."""

    classes: Ints
    support: Ints
    query: Ints


class EpisodeSampler:
    """Draws episodes without replacement of classes, and of clips within a class.

    Args:
        labels: class number of every clip [v].
        ways: classes of an episode.
        shots: labelled clips of each.
        queries: clips of each that are to be told apart.

    Raises:
        UserError: if too few classes have enough clips.
    """

    def __init__(self, labels: Ints, ways: int, shots: int, queries: int) -> None:
        self.ways, self.shots, self.queries = ways, shots, queries
        self._clips = {int(k): np.flatnonzero(labels == k) for k in np.unique(labels)}
        self._classes = np.array([k for k, clips in self._clips.items() if len(clips) >= shots + queries])
        if len(self._classes) < ways:
            raise UserError(
                f"{ways}-way episodes need {ways} classes of at least {shots} + {queries} clips;"
                f" {len(self._classes)} of {len(self._clips)} classes have as many"
            )

    def draw(self, rng: np.random.Generator) -> Episodes:
        """Return one episode, as n = 1."""
        classes = rng.choice(self._classes, self.ways, replace=False)
        chosen = [rng.choice(self._clips[int(k)], self.shots + self.queries, replace=False) for k in classes]
        clips = np.stack(chosen)
        return Episodes(classes[None], clips[None, :, : self.shots], clips[None, :, self.shots :])

    def first(self, count: int, seed: int) -> Episodes:
        """Return the first `count` episodes of a seed; each depends on the seed and its place alone."""
        drawn = [self.draw(np.random.default_rng(mix(seed, place))) for place in range(count)]
        return Episodes(*(np.concatenate(parts) for parts in zip(*drawn, strict=True)))


class EpisodeSource(Dataset[Any]):
    """Training episodes, drawn with torch's generator, which the loader seeds for every place and epoch.

    Args:
        clips: data set of clips, each a dict with `image` [t, c, h, w].
        queries: data set of the same clips as queries see them (augmented otherwise), or `clips` itself.
        sampler: of the clips' labels.
        count: episodes of an epoch.
    """

    def __init__(self, clips: Dataset[Any], queries: Dataset[Any], sampler: EpisodeSampler, count: int) -> None:
        self.clips, self.queries, self.sampler, self.count = clips, queries, sampler, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Batch:
        """Return clips [v, t, c, h, w], v = ways x (shots + queries), support first, and the classes [ways].

        Both parts are in the order of the classes: no part of the method looks at the order of an episode's clips.
        """
        episode = self.sampler.draw(np.random.default_rng(int(torch.randint(2**62, ()))))
        support = [self.clips[int(place)]["image"] for place in episode.support.flat]
        query = [self.queries[int(place)]["image"] for place in episode.query.flat]
        return {"image": torch.stack(support + query), "class": torch.from_numpy(episode.classes[0].copy())}


class EpisodicData(BaseDataModule):
    """Base of DataModules of few-shot protocols: classes of training, validation and test have nothing in common.

    A training batch has `batch_size` episodes; evaluation loads every clip once. Sources are "fit" (episodes), "val"
    and "test" (clips with their labels).

    Args:
        batch_size: the GLOBAL number of episodes of a step.
        num_workers: loader processes of each rank.
        seed: seed of the training episodes and of augmentation.
        ways: classes of an episode.
        shots: labelled clips of each class in training.
        queries: other clips of each class in training.
        train_episodes: episodes of an epoch.
        eval_batch_size: the GLOBAL number of clips of a batch of evaluation.
    """

    frames: int
    """Frames of a clip."""

    def __init__(
        self,
        *,
        batch_size: PositiveInt,
        num_workers: NonNegativeInt,
        seed: NonNegativeInt,
        ways: Annotated[int, Range(low=2)],
        shots: PositiveInt,
        queries: PositiveInt,
        train_episodes: PositiveInt,
        eval_batch_size: PositiveInt,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        self.ways, self.shots, self.queries = ways, shots, queries
        self.train_episodes, self.eval_batch_size = train_episodes, eval_batch_size
        self.test_names = ["test"]

    def class_names(self, split: str) -> list[str]:
        """Return the names of the classes of "fit", "val" or "test"; labels are places in it."""
        raise NotImplementedError

    def labels(self, split: str) -> Ints:
        """Return the label of every clip of "fit", "val" or "test", in the order of its source."""
        raise NotImplementedError

    def episodes(self, labels: Ints, shots: int, count: int, seed: int) -> Episodes:
        """Return `count` episodes, with one query of each class, of clips whose labels are given; places are theirs."""
        return EpisodeSampler(labels, self.ways, shots, 1).first(count, seed)

    def fake_batch(self, size: int) -> Batch:
        """Return `size` empty training episodes."""
        clips = self.ways * (self.shots + self.queries)
        image: Tensor = torch.zeros(size, clips, self.frames, *self.image_shape)
        return {
            "image": image,
            "class": torch.zeros(size, self.ways, dtype=torch.int64),
            "index": torch.zeros(size, dtype=torch.int64),
        }

    def eval_loader(self, source: Dataset[Any], batch_size: int | None = None) -> Any:
        """Return the loader of single clips."""
        return super().eval_loader(source, batch_size or self.eval_batch_size)


def enough_first(labels: Sequence[int] | Ints, ways: int, clips: int = 6) -> Ints:
    """Return an order of clips for runs that look at a part of them: first enough for episodes, then of all classes.

    First come `clips` of each of `ways` classes (5 shots and a query), then all classes in turn.
    """
    labels = np.asarray(labels)
    turn = np.zeros(len(labels), np.int64)
    for k in np.unique(labels):
        own = np.flatnonzero(labels == k)
        turn[own] = np.arange(len(own))
    later = (turn >= clips) | ~np.isin(labels, np.unique(labels)[:ways])
    return np.lexsort((labels, turn, later))
