"""SIRC: a softmax score where features look known, weighed up where they do not (code: sirc/sirc_utils.py)."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

_TINY = torch.finfo(torch.float64).tiny


class Sirc(NamedTuple):
    """Where the second score stops looking known, from training samples.

    Attributes:
        a: mean - 3 std of the second score.
        b: 1 / std of the second score.
    """

    a: float
    b: float

    @classmethod
    def fit(cls, second: Float[Tensor, " n"]) -> "Sirc":
        """Fit to the second score (a confidence: larger = known) of the training samples."""
        second = second.double()
        std = float(second.std(correction=0).clamp_min(_TINY))
        return cls(float(second.mean()) - 3 * std, 1 / std)

    def __call__(self, log_gap: Float[Tensor, " n"], second: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return ln(S1max - S1) + ln(1 + exp(-b (S2 - a))), float64, larger = reject.

        Args:
            log_gap: ln(S1max - S1), the logarithm of the first uncertainty.
            second: S2, a confidence.
        """
        return log_gap + torch.nn.functional.softplus(-self.b * (second.double() - self.a), threshold=700)


def log_entropy(entropy: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return ln H for S1 = -H (S1max = 0), finite even where H underflows."""
    return entropy.clamp_min(_TINY).log()
