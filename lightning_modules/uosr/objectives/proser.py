"""PROSER: placeholders for what is not known (Zhou et al. 2021)."""

from collections.abc import Mapping
from typing import Any, TypedDict

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.distributions import Beta
from torch.nn import functional

from common.ranges import FractionBelowOne, NonNegativeFloat, PositiveFloat
from lightning_modules.uosr.network import Network, Seen, at_least_float32
from lightning_modules.uosr.objectives.objective import Loss, TwoStageObjective, correct
from lightning_modules.uosr.objectives.outlier_exposure import extra_class_probability


class ProserOptions(TypedDict):
    """`alpha` of mixup's Beta, weights of the data and the classifier placeholder, and the share of plain CE first."""

    alpha: PositiveFloat
    data_weight: NonNegativeFloat
    classifier_weight: NonNegativeFloat
    ce_share: FractionBelowOne


class Placeholders(TwoStageObjective):
    """One dummy logit beside the K known ones, fine-tuned from a trained classifier.

    The first half of a batch is mixed in the middle of the backbone and stands in for unknown images (data
    placeholder); on the other half the dummy must come second to the true class (classifier placeholder).
    """

    own_score = "dummy"

    def __init__(self, num_features: int, options: ProserOptions) -> None:
        super().__init__(options["ce_share"])
        self.options = options
        self.dummy = nn.Linear(num_features, 1)

    def _logits(self, seen: Seen) -> Float[Tensor, "n k+1"]:
        return torch.cat((seen.logits, at_least_float32(self.dummy(seen.features))), dim=1)

    def second_loss(self, network: Network, batch: Mapping[str, Any]) -> Loss:
        """Return data_weight * CE(mixed, dummy) + CE(y) + classifier_weight * CE(true logit masked, dummy)."""
        images, labels = batch["image"], batch["label"]
        half = len(images) // 2
        alpha = torch.tensor(self.options["alpha"], device="cpu")
        share = Beta(alpha, alpha).sample().item()
        order = torch.randperm(half, device=images.device)

        def mix(hidden: Tensor) -> Tensor:
            first = hidden[:half]
            return torch.cat((share * first + (1 - share) * first[order], hidden[half:]))

        logits = self._logits(network.mixed(images, mix))
        mixed, clean, labels = logits[:half], logits[half:], labels[half:]
        dummy = torch.full_like(labels, logits.shape[1] - 1)
        masked = clean.scatter(1, labels[:, None], torch.finfo(clean.dtype).min)
        data = functional.cross_entropy(mixed, torch.full((half,), logits.shape[1] - 1, device=labels.device))
        total = functional.cross_entropy(clean, labels) + self.options["data_weight"] * data
        total = total + self.options["classifier_weight"] * functional.cross_entropy(masked, dummy)
        return Loss(total, correct(clean[:, :-1], labels))

    def score(self, seen: Seen) -> Float64[Tensor, " n"]:
        """Return the probability of the dummy class."""
        return extra_class_probability(seen.logits, self.dummy(seen.features).squeeze(1))
