"""Exact resume: noise drawn from the position in training, and a resume point saved between two batches."""

import random
import signal
import time
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

_STAGES = {"fit": 0, "validate": 1, "test": 2}


class PreemptedError(Exception):
    """Raised between two batches, after the resume point was saved, when the process was asked to stop."""


def _seed(*numbers: int) -> None:
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

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:  # noqa: ARG002
        """Seed the initial weights alike on every rank."""
        _seed(self.seed, _STAGES.get(stage, 3))

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:  # noqa: ANN401, ARG002
        """Seed the noise of one training batch."""
        _seed(self.seed, 4, trainer.current_epoch, batch_idx, trainer.global_rank)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Seed the noise of a validation pass, the same at every epoch."""
        _seed(self.seed, 5, trainer.global_rank)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Seed the noise of the test."""
        _seed(self.seed, 6, trainer.global_rank)


class ResumePoint(pl.Callback):
    """Saves `last.ckpt` before a batch begins, when everything about the batch before is done and logged.

    The point holds, beside Lightning's own state, how far metrics.jsonl had been written and the seconds spent, so a
    resumed run has no row twice and none missing.

    Args:
        every_seconds: how often to save; 0 saves before every batch.
    """

    def __init__(self, every_seconds: float = 30.0) -> None:
        self.every_seconds = every_seconds
        self._asked_to_stop = False
        self._saved_at = self._began = time.monotonic()
        self._loaded: dict[str, Any] | None = None
        self._handlers: dict[int, Any] = {}
        self.seconds_before = 0.0

    @property
    def seconds(self) -> float:
        """Training time so far, over all the processes of this run."""
        return self.seconds_before + time.monotonic() - self._began

    def state_dict(self) -> dict[str, Any]:
        """Return what Lightning does not keep."""
        return {"rows": self._rows, "steps": self._steps, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the saved state until training starts."""
        self._loaded = state_dict

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Take up the saved state and listen for requests to stop."""
        self._saved_at = self._began = time.monotonic()
        for number in (signal.SIGTERM, signal.SIGUSR1):
            self._handlers[number] = signal.signal(number, self._on_signal)
        if self._loaded:
            self.seconds_before = self._loaded["seconds"]
        for log in self._row_logs(trainer):
            log.cut_back(self._loaded["rows"] if self._loaded else 0)

    def _on_signal(self, number: int, frame: Any) -> None:  # noqa: ANN401, ARG002
        self._asked_to_stop = True

    @staticmethod
    def _row_logs(trainer: pl.Trainer) -> list[Any]:
        return [logger for logger in trainer.loggers if hasattr(logger, "cut_back")]

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:  # noqa: ANN401, ARG002
        """Save when it is time, on all ranks or none; never inside an accumulation of gradients."""
        loop = trainer.fit_loop.epoch_loop
        if self._loaded is not None:
            # Lightning's restart counts a step and a batch that were not made.
            loop._batches_that_stepped = self._loaded["steps"]  # noqa: SLF001
            loop.batch_progress.total.ready = loop.batch_progress.total.completed + 1
            self._loaded = None
        due = self._asked_to_stop or time.monotonic() - self._saved_at >= self.every_seconds
        due = trainer.strategy.reduce_boolean_decision(due, all=False)
        if not due or batch_idx % trainer.accumulate_grad_batches:
            return
        logs = self._row_logs(trainer)
        self._rows = logs[0].position() if logs else 0
        self._steps = loop._batches_that_stepped  # noqa: SLF001
        stop = trainer.strategy.reduce_boolean_decision(self._asked_to_stop, all=False)
        if batch_idx or trainer.current_epoch:
            trainer.save_checkpoint(f"{trainer.default_root_dir}/checkpoints/last.ckpt")
        self._saved_at = time.monotonic()
        if stop:
            raise PreemptedError

    _rows = 0
    _steps = 0

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:  # noqa: ARG002
        """Give the signal handlers back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()


class Mark(pl.Callback):
    """Writes into every checkpoint which experiment it belongs to."""

    def __init__(self, experiment: str, target: str, identity: str) -> None:
        self.mark = {"experiment": experiment, "target": target, "identity": identity}

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Add the mark."""
        checkpoint["quire"] = self.mark
