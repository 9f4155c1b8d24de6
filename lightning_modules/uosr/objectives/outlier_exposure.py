"""Objectives that see outlier images in training: outlier exposure, the energy hinge and the background class."""

from collections.abc import Mapping
from typing import Any, TypedDict

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.nn import functional

from common.ranges import NonNegativeFloat
from lightning_modules.uosr.network import Network, Seen, at_least_float32
from lightning_modules.uosr.objectives.objective import Loss, Objective, correct, outliers_of

# The names of the objectives here.
WITH_OUTLIERS = {"oe", "energy", "eb"}


class OutlierExposureOptions(TypedDict):
    """`weight` of the outlier term."""

    weight: NonNegativeFloat


class EnergyOptions(TypedDict):
    """`weight` of the hinge, and the energies that known images should stay below and outliers above."""

    weight: NonNegativeFloat
    m_in: float
    m_out: float


class OutlierExposure(Objective):
    """Cross-entropy, plus that of outliers to the uniform distribution up to a constant (Hendrycks et al. 2019)."""

    def __init__(self, options: OutlierExposureOptions) -> None:
        super().__init__()
        self.weight = options["weight"]

    def forward(self, network: Network, batch: Mapping[str, Any]) -> Loss:
        """Return CE + weight * mean(logsumexp f - mean_k f_k) over outliers."""
        known, outlier = network.beside(batch["image"], outliers_of(batch, "oe"))
        uniform = outlier.logits.logsumexp(dim=1) - outlier.logits.mean(dim=1)
        loss = functional.cross_entropy(known.logits, batch["label"]) + self.weight * uniform.mean()
        return Loss(loss, correct(known.logits, batch["label"]))


class EnergyHinge(Objective):
    """Cross-entropy, plus a squared hinge that pulls energies apart (Liu et al. 2020); E = -logsumexp f."""

    own_score = "energy"

    def __init__(self, options: EnergyOptions) -> None:
        super().__init__()
        self.weight, self.m_in, self.m_out = options["weight"], options["m_in"], options["m_out"]

    def forward(self, network: Network, batch: Mapping[str, Any]) -> Loss:
        """Return CE + weight * [mean relu(E_in - m_in)^2 + mean relu(m_out - E_out)^2]."""
        known, outlier = network.beside(batch["image"], outliers_of(batch, "energy"))
        too_high = functional.relu(-known.logits.logsumexp(dim=1) - self.m_in).square().mean()
        too_low = functional.relu(self.m_out + outlier.logits.logsumexp(dim=1)).square().mean()
        loss = functional.cross_entropy(known.logits, batch["label"]) + self.weight * (too_high + too_low)
        return Loss(loss, correct(known.logits, batch["label"]))


class BackgroundClass(Objective):
    """Cross-entropy over K + 1 classes, outliers being the last; its logit is a head of its own.

    Args:
        num_features: number d of penultimate features.
    """

    own_score = "background"

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.background = nn.Linear(num_features, 1)

    def _logits(self, seen: Seen) -> Float[Tensor, "n k+1"]:
        return torch.cat((seen.logits, at_least_float32(self.background(seen.features))), dim=1)

    def forward(self, network: Network, batch: Mapping[str, Any]) -> Loss:
        """Return the cross-entropy of known images and outliers, every image weighing the same."""
        known, outlier = network.beside(batch["image"], outliers_of(batch, "eb"))
        last = torch.full((len(outlier.logits),), known.logits.shape[1], device=known.logits.device)
        logits = torch.cat((self._logits(known), self._logits(outlier)))
        loss = functional.cross_entropy(logits, torch.cat((batch["label"], last)))
        return Loss(loss, correct(known.logits, batch["label"]))

    def score(self, seen: Seen) -> Float64[Tensor, " n"]:
        """Return the probability of the background class."""
        return extra_class_probability(seen.logits, self.background(seen.features).squeeze(1))


def extra_class_probability(logits: Float[Tensor, "n k"], extra: Float[Tensor, " n"]) -> Float64[Tensor, " n"]:
    """Return the softmax probability of one more class beside K, in float64."""
    return torch.sigmoid(extra.double() - logits.double().logsumexp(dim=1))
