"""What every DataModule of the house shares: global batches, resumable loaders, a fingerprint."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader, Dataset

from datamodules.loading import Batch, BatchPlan, Mixture, make_loader


class BaseDataModule(pl.LightningDataModule):
    """Base of the DataModules.

    Args:
        batch_size: the GLOBAL batch, divided over the processes.
        num_workers: loader processes of each rank.
        seed: seed of the sample order and of the augmentation.
    """

    def __init__(self, *, batch_size: int, num_workers: int, seed: int) -> None:
        super().__init__()
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self._start_batch = 0

    # What a protocol says of itself.

    def check(self) -> None:
        """Raise FileNotFoundError, in one plain line with the expected layout, if the data are not there."""

    def fingerprint(self) -> str:
        """Return a short text that changes when the data do (kept in lock.json)."""
        raise NotImplementedError

    def fake_batch(self, size: int) -> Batch:
        """Return a training batch of `size` empty samples with true shapes and types, without reading any data."""
        raise NotImplementedError

    # Loaders.

    def _ranks(self) -> dict[str, int]:
        trainer = self.trainer
        return {"rank": trainer.global_rank, "world": trainer.world_size} if trainer else {"rank": 0, "world": 1}

    def train_loader(
        self, sources: Mapping[str, Dataset[Any]], batch_sizes: Mapping[str, int] | None = None
    ) -> DataLoader[Any]:
        """Return the shuffled, resumable training loader; the first source leads, the others cycle beside it.

        Args:
            sources: data sets by name; the batch holds the first one's fields and `batch[name]`, the images of each other.
            batch_sizes: global batch of the sources that do not use `batch_size`.
        """
        sizes = {name: len(source) for name, source in sources.items()}  # type: ignore[arg-type]
        batches = {name: self.batch_size for name in sources} | dict(batch_sizes or {})
        plan = BatchPlan(sizes, batches, seed=self.seed, shuffle=True, drop_last=True, **self._ranks())
        plan.start, self._start_batch = self._start_batch, 0
        return make_loader(Mixture(sources, self.seed), plan, num_workers=self.num_workers)

    def eval_loader(self, source: Dataset[Any], batch_size: int | None = None) -> DataLoader[Any]:
        """Return a loader in the order of the index; ranks share it without any padded duplicate."""
        plan = BatchPlan({"": len(source)}, {"": batch_size or self.batch_size}, **self._ranks())  # type: ignore[arg-type]
        return make_loader(Mixture({"": source}, self.seed), plan, num_workers=self.num_workers)

    # Resume: the position inside the epoch travels in the checkpoint.

    def state_dict(self) -> dict[str, Any]:
        """Return the number of batches of this epoch that training has finished."""
        assert self.trainer is not None
        return {"completed_batches": self.trainer.fit_loop.epoch_loop.batch_progress.current.completed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the next training loader start behind the finished batches."""
        self._start_batch = int(state_dict["completed_batches"])


def digest(*parts: Any) -> str:  # noqa: ANN401
    """Return a short hash of plain values, for fingerprints."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
