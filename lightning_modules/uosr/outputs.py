"""What a network said of a data set: the cached outputs that every score is computed from."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

_EXTRA = "extra_"


class Outputs(NamedTuple):
    """Outputs of a network on one data set, in the order of its samples.

    Attributes:
        logits: class scores f before the softmax.
        features: penultimate features z (what the last linear layer reads).
        labels: true class numbers; of an unknown set, any numbers.
        extra: further columns by name, first axis n, such as `odin` (float64) or `confidence`.
    """

    logits: Float[Tensor, "n k"]
    features: Float[Tensor, "n d"]
    labels: Int[Tensor, " n"]
    extra: dict[str, Tensor]

    def predictions(self) -> Int[Tensor, " n"]:
        """Return the class with the largest logit."""
        return self.logits.argmax(1)

    def correct(self) -> Tensor:
        """Return bool [n], whether the prediction is the label (InC) or not (InW)."""
        return self.predictions() == self.labels

    def take(self, rows: Tensor) -> "Outputs":
        """Return the outputs of these samples (indices or a mask)."""
        extra = {name: column[rows] for name, column in self.extra.items()}
        return Outputs(self.logits[rows], self.features[rows], self.labels[rows], extra)


def outputs_of(columns: Mapping[str, Tensor]) -> Outputs:
    """Return outputs from `logits`, `features`, `labels` and further columns."""
    extra = {name: column for name, column in columns.items() if name not in {"logits", "features", "labels"}}
    return Outputs(columns["logits"], columns["features"], columns["labels"], extra)


def unit_rows(features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Return the rows divided by their Euclidean length; a row of zeros stays zeros."""
    return torch.nn.functional.normalize(features, dim=1, eps=torch.finfo(features.dtype).tiny)


def save_outputs(path: Path, outputs: Outputs) -> None:
    """Write outputs to an `.npz` file that `np.load(path, allow_pickle=False)` reads; extra columns have a prefix."""
    columns = {"logits": outputs.logits, "features": outputs.features, "labels": outputs.labels}
    columns |= {_EXTRA + name: column for name, column in outputs.extra.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez(file, **{name: column.detach().cpu().numpy() for name, column in columns.items()})  # type: ignore[arg-type]
