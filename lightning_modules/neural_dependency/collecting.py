"""What the networks make of the test splits: logits of every sample, and streaming second moments."""

from typing import NamedTuple

from torch import Tensor

from lightning_modules.collecting import Collector
from lightning_modules.neural_dependency.large import with_one
from lightning_modules.neural_dependency.moments import Moments, SecondMoments

# The splits whose second moments are taken.
MEASURED = ("moments", "test")


class Gathered(NamedTuple):
    """The columns of every split (on the first process), and the moments of the measured ones (on all).

    Attributes:
        columns: by split: `logits`, `labels`, `index`, and what else was collected.
        moments: by split: of the logits, or of [features 1] with `with_features`.
    """

    columns: dict[str, dict[str, Tensor]]
    moments: dict[str, Moments]


class Splits:
    """Collects batch by batch.

    Args:
        num_classes: number K of logits.
        with_features: take the moments of the features, for more categories than a K x K matrix can hold.
    """

    def __init__(self, num_classes: int, *, with_features: bool) -> None:
        self.num_classes, self.with_features = num_classes, with_features
        self.collectors: dict[str, Collector] = {}
        self.metrics: dict[str, SecondMoments] = {}

    def add(self, split: str, columns: dict[str, Tensor]) -> None:
        """Keep the rows of a batch, and add them to the moments; no sample may come twice."""
        self.collectors.setdefault(split, Collector()).add(**columns)
        if split not in MEASURED:
            return
        taken = with_one(columns["features"].float()) if self.with_features else columns["logits"]
        if split not in self.metrics:
            self.metrics[split] = SecondMoments(taken.shape[1]).to(taken.device)
        self.metrics[split].update(taken)

    def gather(self) -> Gathered:
        """Return what all processes collected."""
        found = {name: collector.gather() for name, collector in self.collectors.items()}
        moments = {name: metric.compute() for name, metric in self.metrics.items()}
        return Gathered({name: columns for name, columns in found.items() if columns is not None}, moments)
