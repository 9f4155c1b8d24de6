"""First and second moments of logits, in one pass, in float64 (§2.1 and §2.9)."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

# A variance below this share of the second moment is what rounding leaves of a constant logit (our choice).
CONSTANT = 1e-12
# Samples per category below which an empirical second moment is too noisy to be trusted (our choice; §2.1).
SAMPLES_PER_CATEGORY = 10


@dataclass
class Moments:
    """Count, mean and second moment of logits; not to be changed, though torchmetrics returns no frozen dataclass.

    Args:
        count: samples.
        mean: [K], float64, E[f].
        second: [K, K], float64, E[f f^T], uncentred.
    """

    count: int
    mean: Float[NDArray[np.float64], " k"]
    second: Float[NDArray[np.float64], "k k"]

    def covariance(self, center: bool) -> Float[NDArray[np.float64], "k k"]:
        """Return C: E[f f^T] as the definition has it, or the covariance, which amounts to an intercept.

        The rows and columns of constant logits are exactly 0 in the covariance, so that rounding is never selected.
        """
        if not center:
            return self.second.copy()
        covariance = self.second - np.outer(self.mean, self.mean)
        constant = covariance.diagonal() <= CONSTANT * self.second.diagonal()
        covariance[constant] = 0.0
        covariance[:, constant] = 0.0
        return covariance

    def variance(self) -> Float[NDArray[np.float64], " k"]:
        """Return Var(f_i), 0 for a constant logit."""
        return self.covariance(center=True).diagonal().copy()

    def select(self, categories: Sequence[int] | Int[NDArray[np.int64], " m"]) -> "Moments":
        """Return the moments of some categories, in the order given."""
        kept = np.asarray(categories)
        return Moments(self.count, self.mean[kept], self.second[np.ix_(kept, kept)])

    def check(self) -> None:
        """Refuse moments whose rank the samples limit, and warn of noisy ones (§2.1).

        Raises:
            ValueError: there are fewer samples than categories, so that every dependency would be exact.
        """
        categories = len(self.mean)
        if self.count < categories:
            raise ValueError(
                f"{self.count} samples of {categories} logits: their second moment has rank {self.count} at most and "
                f"every dependency would look exact. Give at least {SAMPLES_PER_CATEGORY * categories} samples."
            )
        if self.count < SAMPLES_PER_CATEGORY * categories:
            warnings.warn(
                f"{self.count} samples of {categories} logits are fewer than {SAMPLES_PER_CATEGORY} per category: "
                "errors on the samples of the fit will be too small. Trust held-out errors only.",
                stacklevel=2,
            )


class SecondMoments(Metric):
    """Streaming n, sum f and sum f f^T, added up over processes, so exact whatever each process saw (§2.1).

    Logits become float32 before, as bfloat16 products would lose what near-singular moments consist of, and are added
    up in float64 (§2.1). Duplicates that a sampler pads with must be left out by the caller. For the moments of two
    networks together, give their logits side by side.

    Args:
        categories: K, the width of the logits.
        options: of `torchmetrics.Metric`.
    """

    full_state_update = False
    count: Tensor
    total: Tensor
    products: Tensor

    def __init__(self, categories: int, **options: Any) -> None:
        super().__init__(**options)
        self.categories = categories
        # Lightning would otherwise cast the sums with the module's precision.
        self.set_dtype(torch.float64)
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros(categories, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("products", torch.zeros(categories, categories, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, logits: Float[Tensor, "n k"]) -> None:
        """Add a batch of logits, [n, K], with no softmax.

        Raises:
            ValueError: the logits are not K wide, hold NaN or infinity, or their device has no float64.
        """
        if logits.ndim != 2 or logits.shape[1] != self.categories:
            raise ValueError(f"logits of shape {tuple(logits.shape)}: expected [n, {self.categories}]")
        if logits.device.type == "mps":
            raise ValueError("second moments need float64, which mps lacks: move the logits to the CPU first")
        rows = logits.detach().float().double()
        if not bool(rows.isfinite().all()):
            raise ValueError("logits hold NaN or infinity")
        self.count += len(rows)
        self.total += rows.sum(0)
        self.products += rows.T @ rows

    def compute(self) -> Moments:
        """Return the moments of all samples of all processes.

        Raises:
            ValueError: there are none.
        """
        count = int(self.count)
        if count == 0:
            raise ValueError("no logits: second moments of nothing")
        return Moments(count, (self.total / count).cpu().numpy(), (self.products / count).cpu().numpy())
