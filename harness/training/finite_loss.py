"""Stops a training whose loss is no number any more, with what is needed to see why."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor


class NotFiniteError(RuntimeError):
    """Raised before the step that a loss of nan or infinity would have taken."""


class FiniteLoss(pl.Callback):
    """Looks at every loss before its backward pass.

    Args:
        dirpath: the run's folder of checkpoints.
        allow_nonfinite: whether such a loss is let pass, for models that can handle it.
    """

    def __init__(self, dirpath: str, allow_nonfinite: bool = False) -> None:
        self.folder, self.allow_nonfinite = Path(dirpath), allow_nonfinite
        self._batch: Any = None

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Keep the batch at hand."""
        self._batch = batch, batch_idx

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Stop at a loss that is no number.

        Raises:
            NotFiniteError: naming the step, the samples, and the file with the weights and the batch.
        """
        if self.allow_nonfinite or bool(torch.isfinite(loss).all()):
            return
        batch, number = self._batch
        file = self.folder / f"not-finite-{trainer.global_rank}.pt"
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"state_dict": pl_module.state_dict(), "batch": batch, "step": trainer.global_step}, file)
        samples = batch.get("index") if isinstance(batch, dict) else None
        named = f", samples {samples.tolist()}" if isinstance(samples, Tensor) else ""
        raise NotFiniteError(
            f"the loss is {float(loss.detach().mean())} at step {trainer.global_step} (epoch {trainer.current_epoch},"
            f" batch {number}{named}); weights and batch are in {file};"
            " callbacks.finite.allow_nonfinite=true lets it pass"
        )
