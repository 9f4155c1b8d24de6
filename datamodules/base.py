"""What every DataModule of the house shares: named sources, global batches, resumable loaders, a fingerprint."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from common.hashing import digest as short_hash
from common.pixel_statistics import Statistics
from common.ranges import NonNegativeInt, PositiveInt, Ranged
from datamodules.loading import Batch, BatchPlan, Mixture, make_loader

# Which source serves a module that tests on a split that a protocol does not hold apart.
_IN_PLACE_OF = {"moments": "val", "test": "known"}
# That of images in -1..1.
_HALVES: Statistics = ((0.5,), (0.5,))


class BaseDataModule(Ranged, pl.LightningDataModule):
    """Base of the DataModules: a protocol names its sources and says how each is got, the loaders follow from that.

    Args:
        batch_size: the GLOBAL batch, divided over the processes.
        num_workers: loader processes of each rank.
        seed: seed of the sample order and of the augmentation.
    """

    offers: ClassVar[Mapping[str, str]]
    """What batches and splits hold, each under a condition on the options (harness/config/data_fit.py)."""
    config_key = "data"
    image_shape: tuple[int, int, int]
    """Channels, height and width of a training image."""
    beside: tuple[str, ...] = ()
    """Sources whose images come beside the training batch, as `batch[name]`."""
    test_names: list[str]
    """Sources of the test loaders, in order."""
    statistics: Statistics | None = None
    """What images are normalized with, None for what the module's backbone was trained with."""

    def __init__(self, *, batch_size: PositiveInt, num_workers: NonNegativeInt, seed: NonNegativeInt) -> None:
        super().__init__()
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self._start = (0, 0)

    # What a protocol says of itself.

    def source(self, name: str) -> Dataset[Any]:
        """Return the data set of a name: "fit" (training, augmented), "val", or one of `beside` or `test_names`."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise FileNotFoundError, in one plain line with the expected layout, if the data are not there."""

    def check_test(self) -> None:
        """Raise as `check` does, for `mode=test`; a subclass that can tell asks for the test's data alone."""
        self.check()

    def fingerprint(self) -> str:
        """Return a short text that changes when the data do (kept in lock.json)."""
        raise NotImplementedError

    def fake_batch(self, size: int) -> Batch:
        """Return a training batch of `size` empty samples with true shapes and types, without reading any data."""
        numbers = {name: torch.zeros(size, dtype=torch.int64) for name in ("label", "index")}
        images = {name: torch.zeros(size, *self.image_shape) for name in ("image", *self.beside)}
        return images | numbers

    # Loaders.

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the training split, with the sources beside it."""
        return self.train_loader({"": self.source("fit")} | {name: self.source(name) for name in self.beside})

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the validation split, which is never a part of the test."""
        return self.eval_loader(self.source("val"))

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """Return one loader for each split that the module tests on, by default for each of `test_names`."""
        names = getattr(self.trainer and self.trainer.lightning_module, "test_splits", lambda _: self.test_names)(self)
        return [self.eval_loader(self.source(self._source_name(name))) for name in names]

    def _source_name(self, split: str) -> str:
        return split if split in self.test_names else _IN_PLACE_OF.get(split, split)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Return the batch with images, in -1..1 so far, normalized on the device as the module's backbone expects."""
        module = self.trainer and self.trainer.lightning_module
        mean, std = self.statistics or getattr(module, "normalization", None) or _HALVES
        if {*mean, *std} == {0.5}:
            return batch
        return batch | {name: _normalized(batch[name], mean, std) for name in {"image", *self.beside} & batch.keys()}

    def _ranks(self) -> dict[str, int]:
        trainer = self.trainer
        return {"rank": trainer.global_rank, "world": trainer.world_size} if trainer else {"rank": 0, "world": 1}

    def train_loader(
        self, sources: Mapping[str, Dataset[Any]], batch_sizes: Mapping[str, int] | None = None
    ) -> DataLoader[Any]:
        """Return the shuffled, resumable training loader; the first source leads, the others cycle beside it.

        Args:
            sources: data sets by name; a batch holds the fields of the first and the images of the others.
            batch_sizes: global batch of the sources that do not use `batch_size`.
        """
        sizes = {name: len(source) for name, source in sources.items()}  # type: ignore[arg-type]
        batches = dict.fromkeys(sources, self.batch_size) | dict(batch_sizes or {})
        plan = BatchPlan(sizes, batches, seed=self.seed, shuffle=True, drop_last=True, **self._ranks())
        plan.start_at(*self._start)
        self._start = (0, 0)
        return make_loader(Mixture(sources, self.seed), plan, num_workers=self.num_workers)

    def eval_loader(self, source: Dataset[Any], batch_size: int | None = None) -> DataLoader[Any]:
        """Return a loader in the order of the index; ranks share it without any padded duplicate."""
        plan = BatchPlan({"": len(source)}, {"": batch_size or self.batch_size}, **self._ranks())  # type: ignore[arg-type]
        return make_loader(Mixture({"": source}, self.seed), plan, num_workers=self.num_workers)

    # Resume: the position in training travels in the checkpoint.

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch and the batch in it with which training has to go on."""
        assert self.trainer is not None
        loop = self.trainer.fit_loop
        epochs: Any = loop.epoch_progress.current
        begun = epochs.started
        done = loop.epoch_loop.batch_progress.current.completed
        if begun == 0 or done >= self.trainer.num_training_batches:
            return {"epoch": begun, "batch": 0}
        return {"epoch": begun - 1, "batch": done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the next training loader start behind the finished batches; a test of a checkpoint changes nothing."""
        if self.trainer is not None and self.trainer.state.fn == "fit":
            self._start = (int(state_dict["epoch"]), int(state_dict["batch"]))


def _normalized(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return images [..., c, h, w] in -1..1 less the mean, over the deviation; gray ones by the mean of the colors."""
    of_channels = torch.tensor([mean, std], dtype=images.dtype, device=images.device)[..., None, None]
    if images.shape[-3] == 1:
        of_channels = of_channels.mean(dim=1, keepdim=True)
    return (images / 2 + 0.5 - of_channels[0]) / of_channels[1]


def digest(*parts: Any) -> str:
    """Return a short hash of plain values, for fingerprints."""
    return short_hash(json.dumps(parts, sort_keys=True, default=str))
