"""Logits that were computed elsewhere, in place of images and a network (neural_dependency §3.3)."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from common.ranges import NonNegativeInt, PositiveInt, Range
from datamodules.base import BaseDataModule, digest
from datamodules.formats.logits import Arrays, read_logits
from datamodules.loading import Batch


class Rows(Dataset[Any]):
    """Rows of arrays that may lie on disk.

    Args:
        arrays: `logits` [n, k], `labels` [n] and others [n, ...].
        rows: which rows, and in which order.
    """

    def __init__(self, arrays: Arrays, rows: NDArray[np.int64]) -> None:
        self.arrays, self.rows = arrays, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        return {key: value[0] for key, value in self.fetch([index]).items()}

    def fetch(self, indices: Sequence[int]) -> Batch:
        """Return `logits` (and others) float32 and `label` int64.

        Raises:
            ValueError: if a number is not finite, as float16 is that ran over.
        """
        rows = self.rows[list(indices)]
        batch: Batch = {}
        for name, array in self.arrays.items():
            if name == "labels":
                batch["label"] = torch.from_numpy(np.asarray(array[rows], np.int64))
                continue
            taken = np.asarray(array[rows], np.float32)
            if not np.isfinite(taken).all():
                bad = int(rows[~np.isfinite(taken).all(axis=1)][0])
                raise ValueError(f"data: row {bad} of {name} holds a number that is not finite")
            batch[name] = torch.from_numpy(taken)
        return batch


class CachedLogits(BaseDataModule):
    """Rows of a file, cut by seed into "moments" (second moments are taken from them) and "test".

    Batches hold `logits` [b, k], `label` [b], `index` [b], `features` [b, d] if the file has them, and, with a second
    file, `source_logits` [b, k2] of another network on the same pictures in the same order. There is nothing to train.

    Args:
        batch_size: the GLOBAL batch.
        num_workers: loader processes of each rank; rows are only copied, so 0 is fastest.
        seed: seed of the run; it changes no row here.
        path: file or folder, see `datamodules.formats.logits`.
        source_path: the same of another network, for dependencies between networks, or null.
        num_classes: number of logits.
        test_fraction: share of the rows that are tested.
        split_seed: seed of the choice of these.
    """

    offers: ClassVar = {"classes": "", "logits": ""}

    def __init__(
        self,
        *,
        batch_size: PositiveInt = 1024,
        num_workers: NonNegativeInt = 0,
        seed: NonNegativeInt = 0,
        path: str,
        source_path: str | None = None,
        num_classes: PositiveInt = 1000,
        test_fraction: Annotated[float, Range(above=0, below=1)] = 0.5,
        split_seed: NonNegativeInt = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        self.path, self.source_path = Path(path), Path(source_path) if source_path else None
        self.num_classes, self.test_fraction, self.split_seed = num_classes, test_fraction, split_seed
        self.test_names = ["moments", "test"]

    @cached_property
    def arrays(self) -> Arrays:
        """The arrays of the file, and `source_logits`.

        Raises:
            ValueError: if the rows of the two files are not of the same pictures.
        """
        arrays = read_logits(self.path)
        if self.source_path is None:
            return arrays
        other = read_logits(self.source_path)
        if not np.array_equal(arrays["labels"], other["labels"]):
            raise ValueError(
                f"{self.source_path} is not of the same pictures as {self.path} in the same order: its labels differ"
            )
        return arrays | {"source_logits": other["logits"]}

    def check(self) -> None:
        """Raise FileNotFoundError if the file is not there, ValueError if it is not what it should be."""
        count = self.arrays["logits"].shape[1]
        if count != self.num_classes:
            raise ValueError(f"data.num_classes is {self.num_classes}, but {self.path} has {count} logits")
        if not min(map(len, self._rows.values())):
            raise ValueError(f"data.test_fraction is {self.test_fraction}, which leaves a split of {self.path} empty")

    @cached_property
    def _rows(self) -> dict[str, NDArray[np.int64]]:
        count = len(self.arrays["labels"])
        order = np.random.default_rng(self.split_seed).permutation(count)
        held = round(count * self.test_fraction)
        # Rising, so that a loader in order reads the file from front to back.
        return {"test": np.sort(order[:held]), "moments": np.sort(order[held:])}

    def source(self, name: str) -> Rows:
        """Return "moments" or "test"; "fit" and "val" are "moments"."""
        return Rows(self.arrays, self._rows["test" if name == "test" else "moments"])

    def fake_batch(self, size: int) -> Batch:
        """Return a batch of `size` empty rows, without reading any data."""
        numbers = {name: torch.zeros(size, dtype=torch.int64) for name in ("label", "index")}
        return {"logits": torch.zeros(size, self.num_classes)} | numbers

    def fingerprint(self) -> str:
        """Return a hash of the arrays' shapes, the labels, some rows and the split."""
        shapes = {name: (str(array.dtype), array.shape) for name, array in self.arrays.items()}
        some = np.linspace(0, len(self.arrays["labels"]) - 1, 16).astype(int)
        shown = {name: np.asarray(array[some]).tobytes().hex() for name, array in self.arrays.items()}
        labels = digest(np.asarray(self.arrays["labels"]).tobytes().hex())
        return digest("logits", shapes, labels, shown, self.test_fraction, self.split_seed)
