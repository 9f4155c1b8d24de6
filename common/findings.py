"""The results of an evaluation as plain values, and the loggers that keep them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable


class Table(NamedTuple):
    """Columns, and rows of numbers and texts."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass
class Findings:
    """Metrics, tables, pictures (PIL image, matplotlib figure, uint8 [h, w, 3]) and captions of pictures, by name."""

    metrics: dict[str, float] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    pictures: dict[str, Any] = field(default_factory=dict)
    captions: Mapping[str, str] = field(default_factory=dict)

    def __or__(self, other: "Findings") -> "Findings":
        """Return both findings together."""
        return Findings(
            self.metrics | other.metrics,
            self.tables | other.tables,
            self.pictures | other.pictures,
            {**self.captions, **other.captions},
        )


@runtime_checkable
class TableLogger(Protocol):
    """A Lightning logger that keeps tables."""

    def log_table(self, key: str, columns: list[str], data: list[list[Any]]) -> None:
        """Keep a table."""


@runtime_checkable
class PictureLogger(Protocol):
    """A Lightning logger that keeps pictures."""

    def log_image(self, key: str, images: list[Any], caption: list[str] | None = None) -> None:
        """Keep pictures."""
