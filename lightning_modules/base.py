"""What every paper's LightningModule shares: when weights are loaded, tables and pictures that reach every logger."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch


class BasePaper(pl.LightningModule):
    """Base of the papers; constructors take plain values only, networks are built in `configure_model`.

    A run takes its first weights from one place: a checkpoint to go on from, weights named by `ckpt=PATH`
    (`start_from`), or else what the paper's config names (`load_pretrained`).
    """

    # Whether a step may leave trainable parameters without a gradient, which DDP has to be told.
    has_unused_parameters = False
    # Numbers that the optimizer keeps for each trained parameter, for estimates of memory: 2 for Adam.
    optimizer_states = 2
    _given_weights = False

    def load_pretrained(self) -> None:
        """Load the pre-trained weights that the config names; called once, before a training that starts anew."""

    def start_from(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Start from a checkpoint's weights instead of pre-trained ones; call `configure_model` first.

        Raises:
            RuntimeError: if the weights are not those of this network.
        """
        self.load_state_dict(weights)
        self._given_weights = True

    def setup(self, stage: str) -> None:
        """Load pre-trained weights unless training goes on from a checkpoint or starts from given weights."""
        if stage == "fit" and not self.trainer.ckpt_path and not self._given_weights:
            self.configure_model()
            self.load_pretrained()

    def cost_step(self, batch: dict[str, Any]) -> None:
        """Do one training step's forward and backward pass without a trainer, to count what it costs."""
        loss = self.training_step(batch, 0)
        (loss["loss"] if isinstance(loss, dict) else loss).backward()

    def show_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Hand a table to every logger that keeps tables (the run folder's always does)."""
        if self.trainer.is_global_zero:
            for logger in self.loggers:
                if hasattr(logger, "log_table"):
                    logger.log_table(key=name, columns=list(columns), data=[list(row) for row in rows])

    def show_picture(self, name: str, image: Any, caption: str = "") -> None:
        """Hand a picture (PIL image, matplotlib figure, uint8 [h, w, 3]) to every logger that keeps pictures."""
        if self.trainer.is_global_zero:
            for logger in self.loggers:
                if hasattr(logger, "log_image"):
                    logger.log_image(key=name, images=[image], caption=[caption])

    @property
    def run_folder(self) -> Path:
        """The folder of this run, where files that are neither table nor picture go."""
        return Path(self.trainer.default_root_dir)
