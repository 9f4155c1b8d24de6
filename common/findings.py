"""What an evaluation has found, as plain values: the module that asked for it logs and shows them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Table(NamedTuple):
    """Columns, and rows of numbers and texts."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass
class Findings:
    """Metrics by name, tables by name, pictures by name (PIL image, matplotlib figure, uint8 [h, w, 3])."""

    metrics: dict[str, float] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    pictures: dict[str, Any] = field(default_factory=dict)

    def __or__(self, other: "Findings") -> "Findings":
        """Return both findings together."""
        return Findings(self.metrics | other.metrics, self.tables | other.tables, self.pictures | other.pictures)
