"""PROSER: placeholders for what is not known (Zhou et al. 2021)."""

from collections.abc import Mapping
from typing import Any, TypedDict

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor, nn
from torch.distributions import Beta
from torch.nn import functional

from common.ranges import FractionBelowOne, NonNegativeFloat, PositiveFloat
from lightning_modules.uosr.network import Network, Seen, at_least_float32
from lightning_modules.uosr.objectives.objective import Loss, TwoStageObjective, correct
from lightning_modules.uosr.objectives.outlier_exposure import extra_class_probability
from networks.distributed import gather_rows_with_gradient, global_mean, rank, rank_part, world_size


class ProserOptions(TypedDict):
    """`alpha` of mixup's Beta, weights of the data and the classifier placeholder, and the share of plain CE first."""

    alpha: PositiveFloat
    data_weight: NonNegativeFloat
    classifier_weight: NonNegativeFloat
    ce_fraction: FractionBelowOne


def _mean(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> Float[Tensor, ""]:
    return global_mean(functional.cross_entropy(logits, labels, reduction="none"))


class Placeholders(TwoStageObjective):
    """One dummy logit beside the K known ones, fine-tuned from a trained classifier.

    Every second image of a batch is mixed with another of these in the middle of the backbone and stands in for an
    unknown one (data placeholder); on the others the dummy must come second to the true class (classifier placeholder).
    """

    own_score = "dummy"

    def __init__(self, num_features: int, options: ProserOptions) -> None:
        super().__init__(options["ce_fraction"])
        self.options = options
        self.dummy = nn.Linear(num_features, 1)

    def _logits(self, seen: Seen) -> Float[Tensor, "n k+1"]:
        return torch.cat((seen.logits, at_least_float32(self.dummy(seen.features))), dim=1)

    def second_loss(self, network: Network, batch: Mapping[str, Any]) -> Loss:
        """Return data_weight * CE(mixed, dummy) + CE(y) + classifier_weight * CE(true logit masked, dummy)."""
        images, labels = batch["image"], batch["label"]
        count = len(images)
        alpha = torch.tensor(self.options["alpha"], device="cpu")
        with self.noise.seeding("share"):
            share = Beta(alpha, alpha).sample().item()
        others, is_mixed = self._others(count, images.device)

        def mix(hidden: Tensor) -> Tensor:
            blend = share * hidden + (1 - share) * gather_rows_with_gradient(hidden)[others]
            return torch.where(is_mixed.view(-1, *[1] * (hidden.dim() - 1)), blend, hidden)

        logits = self._logits(network.mixed(images, mix))
        mixed, clean, labels = logits[is_mixed], logits[~is_mixed], labels[~is_mixed]
        dummy = torch.full((count,), logits.shape[1] - 1, device=labels.device)
        masked = clean.scatter(1, labels[:, None], torch.finfo(clean.dtype).min)
        total = _mean(clean, labels) + self.options["data_weight"] * _mean(mixed, dummy[: len(mixed)])
        total = total + self.options["classifier_weight"] * _mean(masked, dummy[: len(clean)])
        return Loss(total, correct(clean[:, :-1], labels))

    def _others(self, count: int, device: torch.device) -> tuple[Int[Tensor, " b"], Bool[Tensor, " b"]]:
        """Return which of the global batch each of this process's images would be mixed with, and whether it is."""
        place = torch.arange(count * world_size())
        others, every_second = place.clone(), place[::2]
        order = torch.randperm(len(every_second), generator=self.noise.shared("order"))
        others[::2] = every_second[order]
        own = rank_part(count, rank())
        return others[own].to(device), (place[own] % 2 == 0).to(device)

    def score(self, seen: Seen) -> Float64[Tensor, " n"]:
        """Return the probability of the dummy class."""
        return extra_class_probability(seen.logits, self.dummy(seen.features).squeeze(1))
