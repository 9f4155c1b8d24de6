"""metrics.jsonl, tables and pictures in the run folder: always written, and the truth that other loggers mirror."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.loggers.logger import Logger, rank_zero_experiment
from pytorch_lightning.utilities import rank_zero_only

from common.files import write_json


def _plain(value: Any) -> Any:
    number = float(value) if not isinstance(value, int) else value
    return number if math.isfinite(number) else str(number)


class RunLog(Logger):
    """A Lightning logger that writes a JSON row for every call, tables as JSON and pictures as PNG.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = Path(folder)

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.folder.parent.name

    @property
    def version(self) -> str:
        """The run folder's name."""
        return self.folder.name

    @property
    @rank_zero_experiment
    def experiment(self) -> Path:
        """The file of rows."""
        return self.folder / "metrics.jsonl"

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Leave the config to lock.json."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one row; numbers that are not finite are written as text."""
        row = {"step": step} | {key: _plain(value) for key, value in metrics.items()}
        with self.experiment.open("a") as file:
            file.write(json.dumps(row) + "\n")

    @rank_zero_only
    def log_table(self, key: str, columns: list[str], data: list[list[Any]]) -> None:
        """Write a table to tables/<key>.json."""
        place = self.folder / "tables" / f"{key}.json"
        place.parent.mkdir(exist_ok=True)
        write_json(place, {"columns": columns, "rows": data})

    @rank_zero_only
    def log_image(self, key: str, images: list[Any], caption: list[str] | None = None) -> None:
        """Write pictures to pictures/<key>.png (matplotlib figure, PIL image or uint8 array)."""
        for number, image in enumerate(images):
            place = self.folder / "pictures" / f"{key}{number or ''}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            if hasattr(image, "savefig"):
                image.savefig(place, dpi=120, bbox_inches="tight")
            else:
                from PIL import Image

                (image if hasattr(image, "save") else Image.fromarray(np.asarray(image))).save(place)

    def position(self) -> int:
        """Return how many bytes of rows are written."""
        return self.experiment.stat().st_size if self.experiment.exists() else 0

    @rank_zero_only
    def cut_back(self, position: int) -> None:
        """Drop the rows written after a resume point: the run will write them again."""
        if self.position() > position:
            os.truncate(self.experiment, position)


def last_values(file: Path) -> dict[str, Any]:
    """Return the last value of every metric in a file of rows."""
    values: dict[str, Any] = {}
    for line in file.read_text().splitlines() if file.exists() else []:
        values |= json.loads(line)
    return {key: value for key, value in values.items() if key not in {"step", "epoch"}}
