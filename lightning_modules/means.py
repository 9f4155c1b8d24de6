"""Means of a validation or test split, over the samples of all processes, which may hold unequal shares."""

from collections.abc import Iterable
from typing import cast

from torch import Tensor, nn
from torchmetrics import MeanMetric


class Means(nn.ModuleDict):
    """A mean for each name that is logged.

    Args:
        names: such as `val/acc`.
    """

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__({name: MeanMetric() for name in names})

    def add(self, name: str, values: Tensor) -> None:
        """Add a batch's values, one for each sample."""
        cast(MeanMetric, self[name]).update(values)

    def take(self, stage: str) -> dict[str, Tensor]:
        """Return the means of a stage (`val`, `test`) over all processes, and start again."""
        means = {name: cast(MeanMetric, mean) for name, mean in self.items() if name.startswith(f"{stage}/")}
        values = {name: mean.compute() for name, mean in means.items()}
        for mean in means.values():
            mean.reset()
        return values
