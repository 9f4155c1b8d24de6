"""What every paper's LightningModule shares: tables and pictures that reach every logger."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl


class BasePaper(pl.LightningModule):
    """Base of the papers; constructors take plain values only, networks are built in `configure_model`."""

    def show_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Hand a table to every logger that keeps tables (the run folder's always does)."""
        if self.trainer.is_global_zero:
            for logger in self.loggers:
                if hasattr(logger, "log_table"):
                    logger.log_table(key=name, columns=list(columns), data=[list(row) for row in rows])

    def show_picture(self, name: str, image: Any, caption: str = "") -> None:  # noqa: ANN401
        """Hand a picture (PIL image, matplotlib figure or H x W x 3 uint8 array) to every logger that keeps pictures."""
        if self.trainer.is_global_zero:
            for logger in self.loggers:
                if hasattr(logger, "log_image"):
                    logger.log_image(key=name, images=[image], caption=[caption])

    @property
    def run_folder(self) -> Path:
        """The folder of this run, where files that are neither table nor picture go."""
        return Path(self.trainer.default_root_dir)
