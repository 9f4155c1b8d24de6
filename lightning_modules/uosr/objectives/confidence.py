"""Objectives with a confidence branch on the features: learned confidence, true class probability, right or wrong."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, TypedDict

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn
from torch.nn import functional

from common.ranges import Fraction, FractionBelowOne, NonNegativeFloat, PositiveInt
from lightning_modules.uosr.network import Network, Seen, at_least_float32
from lightning_modules.uosr.objectives.objective import Loss, Objective, TwoStageObjective, correct
from networks.distributed import gather_rows


class LearnedConfidenceOptions(TypedDict):
    """First `weight` of -ln c, the `budget` that steers it (null: it stays), and the share of samples given `hints`."""

    hidden: list[PositiveInt]
    weight: NonNegativeFloat
    budget: NonNegativeFloat | None
    hints: Fraction


class TrueClassProbabilityOptions(TypedDict):
    """Widths of the branch, and the share of the training that the classifier gets first."""

    hidden: list[PositiveInt]
    ce_fraction: FractionBelowOne


class RightOrWrongOptions(TypedDict):
    """Widths of the branch, and the weight of its loss."""

    hidden: list[PositiveInt]
    weight: NonNegativeFloat


class Branch(nn.Sequential):
    """Features [n, d] to the logit [n] of a confidence: linear layers with ReLU between."""

    def __init__(self, num_features: int, hidden: list[int]) -> None:
        layers: list[nn.Module] = []
        for narrow, wide in pairwise([num_features, *hidden]):
            layers += [nn.Linear(narrow, wide), nn.ReLU()]
        super().__init__(*layers, nn.Linear([num_features, *hidden][-1], 1), nn.Flatten(0))

    def uncertainty(self, features: Float[Tensor, "n d"]) -> Float64[Tensor, " n"]:
        """Return 1 - c, in float64 from the logit so that confident samples do not tie."""
        return torch.sigmoid(-self(features).double())


class LearnedConfidence(Objective):
    """LC (DeVries & Taylor 2018): the network may ask for a hint of the true class, and pays for it by confidence c.

    The weight of the price follows the published budget rule: it shrinks by 1 % when the price is below the budget and
    grows by 1 % when above. The official UOSR code resets it at every step, so there it never acts (budget: null).
    """

    own_score = "confidence"
    weight: Float[Tensor, ""]

    def __init__(self, num_features: int, options: LearnedConfidenceOptions) -> None:
        super().__init__()
        self.branch = Branch(num_features, options["hidden"])
        self.budget, self.hints = options["budget"], options["hints"]
        self.register_buffer("weight", torch.tensor(options["weight"]))

    def forward(self, network: Network, batch: Mapping[str, Any]) -> Loss:
        """Return NLL(log p') + weight * mean(-ln c), with p' = c' p + (1 - c') onehot and c' = 1 without a hint."""
        seen = network(batch["image"])
        logit = at_least_float32(self.branch(seen.features))
        hinted = self.noise.uniform("hints", logit.shape, device=logit.device) < self.hints
        confidence = torch.where(hinted, torch.sigmoid(logit), torch.ones_like(logit))
        right = seen.logits.softmax(dim=1).gather(1, batch["label"][:, None]).squeeze(1)
        nll = -(confidence * right + (1 - confidence)).clamp_min(1e-12).log().mean()
        price = functional.softplus(-logit).mean()
        loss = nll + self.weight.clone() * price
        if self.budget is not None:
            self._follow_budget(price, self.budget)
        return Loss(loss, correct(seen.logits, batch["label"]))

    @torch.no_grad()
    def _follow_budget(self, price: Float[Tensor, ""], budget: float) -> None:
        price = gather_rows(price[None]).mean()
        self.weight.copy_(torch.where(price < budget, self.weight / 1.01, self.weight / 0.99))

    def score(self, seen: Seen) -> Float64[Tensor, " n"]:
        """Return 1 - c."""
        return self.branch.uncertainty(seen.features)


class TrueClassProbability(TwoStageObjective):
    """TCP (Corbiere et al. 2019): the branch regresses a frozen classifier's softmax probability of the true class.

    Frozen means batch-norm statistics too. (The official UOSR code trains LC under this name.)
    """

    own_score = "confidence"

    def __init__(self, num_features: int, options: TrueClassProbabilityOptions) -> None:
        super().__init__(options["ce_fraction"])
        self.branch = Branch(num_features, options["hidden"])

    def _error(self, seen: Seen, labels: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        target = seen.logits.softmax(dim=1).gather(1, labels[:, None]).squeeze(1).detach()
        return (torch.sigmoid(at_least_float32(self.branch(seen.features.detach()))) - target).square()

    def second_loss(self, network: Network, batch: Mapping[str, Any]) -> Loss:
        """Return the mean squared error of the branch to the true class probability."""
        network.eval()
        with torch.no_grad():
            seen = network(batch["image"])
        return Loss(self._error(seen, batch["label"]).mean(), correct(seen.logits, batch["label"]))

    def second_quality(self, seen: Seen, labels: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return one less the squared error; the accuracy no longer moves."""
        return 1 - self._error(seen, labels)

    def score(self, seen: Seen) -> Float64[Tensor, " n"]:
        """Return one less the predicted true class probability."""
        return self.branch.uncertainty(seen.features)


class RightOrWrong(Objective):
    """BCE: cross-entropy, and the branch learns whether the class is right; its gradient reaches the backbone."""

    own_score = "confidence"

    def __init__(self, num_features: int, options: RightOrWrongOptions) -> None:
        super().__init__()
        self.branch = Branch(num_features, options["hidden"])
        self.weight = options["weight"]

    def forward(self, network: Network, batch: Mapping[str, Any]) -> Loss:
        """Return CE + weight * binary cross-entropy of the branch to `argmax f == y`."""
        seen = network(batch["image"])
        right = correct(seen.logits, batch["label"])
        beside = functional.binary_cross_entropy_with_logits(
            at_least_float32(self.branch(seen.features)), right.to(seen.logits.dtype)
        )
        return Loss(functional.cross_entropy(seen.logits, batch["label"]) + self.weight * beside, right)

    def score(self, seen: Seen) -> Float64[Tensor, " n"]:
        """Return the predicted probability of being wrong."""
        return self.branch.uncertainty(seen.features)
