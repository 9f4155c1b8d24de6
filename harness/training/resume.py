"""Exact resume: noise drawn from the position in training, and a resume point saved between two batches."""

import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from common.ranges import NonNegativeFloat, NonNegativeInt
from harness.core import slurm
from harness.core.process import PreemptedError
from harness.training.checkpoints import read_checkpoint
from harness.training.epoch_sums import add_epoch_sums, epoch_sums
from harness.training.interfaces import Rewindable

# Batches between two agreements of the ranks on saving or stopping.
_AGREE_EVERY = 8
_STAGES = {"fit": 0, "validate": 1, "test": 2}


def rows_at(point: Path | None) -> int:
    """Return how many bytes of metrics.jsonl were written at a resume point, 0 without one."""
    if point is None:
        return 0
    content = read_checkpoint(point, mapped=True)
    return int(content["callbacks"]["ResumePoint"]["rows"])


def seed_generators(*numbers: int) -> None:
    """Seed Python's, NumPy's and torch's generators from whole numbers."""
    seeds = np.random.SeedSequence(numbers).generate_state(4)
    random.seed(int(seeds[0]))
    np.random.seed(int(seeds[1]))  # noqa: NPY002 - libraries draw from the global generator
    torch.default_generator.manual_seed(int(seeds[2]))
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(int(seeds[3]))


class PositionSeeds(pl.Callback):
    """Seeds all generators from (seed, stage, epoch, batch, rank), so that no state of theirs needs saving.

    Whatever was drawn before, by a library or a restart, the noise of a batch is the same.
    """

    def __init__(self, seed: NonNegativeInt) -> None:
        self.seed = seed

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Seed the initial weights alike on every rank, and let the module know the run's seed."""
        seed_generators(self.seed, _STAGES.get(stage, 3))
        pl_module.run_seed = self.seed  # type: ignore[assignment]

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Seed the noise of one training batch."""
        seed_generators(self.seed, 4, trainer.current_epoch, batch_idx, trainer.global_rank)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed the noise of a validation pass, the same at every epoch."""
        seed_generators(self.seed, 5, trainer.global_rank)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed the noise of the test."""
        seed_generators(self.seed, 6, trainer.global_rank)


class ResumePoint(pl.Callback):
    """Saves `last.ckpt` before a batch begins, when everything about the batch before is done and logged.

    The point holds, beside Lightning's own state, how far metrics.jsonl had been written and the seconds spent, so a
    resumed run has no row twice and none missing.

    Args:
        every_seconds: how often to save; 0 saves before every batch.
    """

    def __init__(self, every_seconds: NonNegativeFloat = 30.0) -> None:
        self.every_seconds = every_seconds
        self._asked_to_stop = False
        self._saved_at = self._began = time.monotonic()
        self._training, self._ended, self._spent = False, False, 0.0
        self._loaded: dict[str, Any] | None = None
        self._handlers: dict[int, Any] = {}
        self._rows = self._steps = 0
        self._sums: dict[str, Any] = {}
        self._sums_to_add: dict[str, Any] = {}
        self.seconds_before = 0.0

    @property
    def seconds(self) -> float:
        """Training time so far, over all the processes of this run."""
        return self.seconds_before + (time.monotonic() - self._began if self._training else self._spent)

    def state_dict(self) -> dict[str, Any]:
        """Return what Lightning does not keep."""
        return {"rows": self._rows, "steps": self._steps, "sums": self._sums, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the time spent; the rest waits until training starts."""
        if self._ended:
            # The test restores the callbacks of the tested checkpoint, whose time is no longer ours.
            return
        self._loaded = state_dict
        self.seconds_before = state_dict["seconds"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen for requests to stop."""
        self._saved_at = self._began = time.monotonic()
        self._training = True
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            self._handlers[number] = signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: Any) -> None:
        if self._asked_to_stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        slurm.note_signal(number)
        self._asked_to_stop = True

    @staticmethod
    def _row_logs(trainer: pl.Trainer) -> list[Rewindable]:
        return [logger for logger in trainer.loggers if isinstance(logger, Rewindable)]

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Save when it is time, on all ranks or none; never inside an accumulation of gradients."""
        loop = trainer.fit_loop.epoch_loop
        if self._loaded is not None:
            # Lightning's restart counts a step and a batch that were not made.
            loop._batches_that_stepped = self._loaded["steps"]  # noqa: SLF001
            loop.batch_progress.total.ready = loop.batch_progress.total.completed + 1
            self._sums_to_add = self._loaded["sums"] if batch_idx else {}
            self._loaded = None
        # Agreeing waits for all ranks, so they do not do it before every batch.
        if batch_idx % trainer.accumulate_grad_batches or (trainer.world_size > 1 and batch_idx % _AGREE_EVERY):
            return
        due = self._asked_to_stop or time.monotonic() - self._saved_at >= self.every_seconds
        if not trainer.strategy.reduce_boolean_decision(due, all=False):
            return
        stop = trainer.strategy.reduce_boolean_decision(self._asked_to_stop, all=False)
        if batch_idx or trainer.current_epoch:
            self.save(trainer)
        self._saved_at = time.monotonic()
        if stop:
            raise PreemptedError

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Stop within a validation, which may be long; the run goes on from the point before it."""
        if not self._training or (trainer.world_size > 1 and batch_idx % _AGREE_EVERY):
            return
        if trainer.strategy.reduce_boolean_decision(self._asked_to_stop, all=False):
            raise PreemptedError

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        """Add what the epoch's figures had summed up before the resume point."""
        if self._sums_to_add:
            self._sums_to_add = add_epoch_sums(trainer, self._sums_to_add)

    def save_end(self, trainer: pl.Trainer) -> None:
        """Save the end of training, from which only the test is left to do."""
        self._ended = True
        if self._training:
            self._spent, self._training = time.monotonic() - self._began, False
            self.save(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        """Save `last.ckpt` now, between two batches."""
        logs = self._row_logs(trainer)
        self._rows = logs[0].position() if logs else 0
        self._steps = trainer.fit_loop.epoch_loop._batches_that_stepped  # noqa: SLF001
        self._sums = epoch_sums(trainer) | self._sums_to_add
        trainer.save_checkpoint(f"{trainer.default_root_dir}/checkpoints/last.ckpt")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the signal handlers back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()


class Mark(pl.Callback):
    """Writes into every checkpoint which experiment it belongs to."""

    def __init__(self, experiment: str, target: str, identity: str) -> None:
        self.mark = {"experiment": experiment, "target": target, "identity": identity}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the mark."""
        checkpoint["quire"] = self.mark
