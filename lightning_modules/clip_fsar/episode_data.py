"""What CLIP-FSAR asks of its data: clips by split, and episodes of them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

DrawnEpisodes: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Of e episodes the numbers of classes [e, n], and of clips, support [e, n, k] and query [e, n, q]."""


class EpisodeData(Protocol):
    """A DataModule of episodes: batch sizes of one process in episodes and in clips, and data sets by split."""

    batch_size: int
    eval_batch_size: int

    def class_names(self, split: str) -> Sequence[str]:
        """Return the names of a split's classes."""
        ...

    def labels(self, split: str) -> NDArray[np.int64]:
        """Return the labels of a split's clips [v]."""
        ...

    def episodes(self, labels: NDArray[np.int64], shots: int, count: int, seed: int) -> DrawnEpisodes:
        """Return `count` episodes of clips with these labels."""
        ...

    def source(self, name: str) -> Sequence[Mapping[str, Any]]:
        """Return the data set of a split; samples have an `image` float [t, 3, h, w]."""
        ...


def check_episodes(data: EpisodeData, split: str, shots: int, limit: int | float | None) -> None:
    """Draw one episode of the clips that a split is limited to, in batches or as a share; no limit is no episodes.

    Raises:
        UserError: by the data, if these clips make no such episode.
    """
    if limit:
        labels = data.labels(split)
        batches = limit if isinstance(limit, int) else int(limit * math.ceil(len(labels) / data.eval_batch_size))
        data.episodes(labels[: batches * data.eval_batch_size], shots, 1, 0)
