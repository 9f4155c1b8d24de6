"""FS-KNNS and its competitors: reference distance d and softmax uncertainty u0 put on one scale and combined.

Few-shot arrays have a first axis of tries: every try has its own references, hence its own scales and thresholds.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Column = Float[Tensor, "tries 1"]
_TINY = torch.finfo(torch.float64).tiny


class Range(NamedTuple):
    """Minimum and maximum that are mapped to 0 and 1."""

    low: Column
    high: Column

    @classmethod
    def of(cls, *values: Float[Tensor, "tries n"]) -> "Range":
        """Return the range over all samples of each try."""
        low = torch.stack([each.amin(1) for each in values]).amin(0)
        high = torch.stack([each.amax(1) for each in values]).amax(0)
        return cls(low.unsqueeze(1), high.unsqueeze(1))

    def __call__(self, values: Float[Tensor, "tries n"]) -> Float[Tensor, "tries n"]:
        """Return the values on this scale; samples beyond the range leave [0, 1], so no order is lost."""
        return (values - self.low) / (self.high - self.low).clamp_min(_TINY)


class Fusion:
    """The combinations of one few-shot evaluation (code: fs_evaluate.py).

    Args:
        d_train: distance of the training samples, whose train term is 0, [tries, t].
        d_refs: distance of the references themselves, [tries, r].
        d_range: scale of d.
        u_range: scale of u0, the softmax uncertainty.
        alpha: steepness of the gate (50).
        beta: the gate opens at mean - beta * std of the references' d (1 for images, 0.5 for videos).
    """

    def __init__(
        self,
        d_train: Float[Tensor, "tries t"],
        d_refs: Float[Tensor, "tries r"],
        d_range: Range,
        u_range: Range,
        alpha: float = 50.0,
        beta: float = 1.0,
    ) -> None:
        self.d_range, self.u_range, self.alpha = d_range, u_range, alpha
        refs, train = d_range(d_refs.double()), d_range(d_train.double())
        self.gate = refs.mean(1, keepdim=True) - beta * refs.std(1, correction=0, keepdim=True)
        std = train.std(1, correction=0, keepdim=True).clamp_min(_TINY)
        self.sirc_a, self.sirc_b = train.mean(1, keepdim=True) + 3 * std, 1 / std

    def scores(self, d: Float[Tensor, "tries n"], msp: Float[Tensor, "tries n"]) -> dict[str, Float[Tensor, "tries n"]]:
        """Return the fused scores, float64, larger = reject.

        Args:
            d: reference distance [1 - s5(x, train)] + s5(x, refs).
            msp: softmax uncertainty 1 - max p; [1, n] serves all tries.
        """
        d, u0 = self.d_range(d.double()), self.u_range(msp.double())
        gate = torch.nn.functional.softplus(self.sirc_b * (d - self.sirc_a), threshold=700)
        return {
            "fs_knn": d,
            "fs_knn_plus_s": d + u0,
            "fs_knn_times_s": d * u0,
            # ln(u0 (1 + exp(b (d - a))) + 1e-6); u0 just below the fitted range counts as 0 here.
            "sirc": torch.logaddexp(u0.clamp_min(0).log() + gate, u0.new_tensor(1e-6).log()),
            "fs_knns": u0 + torch.sigmoid(self.alpha * (d - self.gate)) * d,
        }
