"""What a training objective is, and the plain one: cross-entropy on the known classes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor, nn
from torch.nn import functional

from common.errors import UserError
from lightning_modules.uosr.network import Network, Seen
from networks.noise import BatchNoise


class Loss(NamedTuple):
    """The loss of a batch, and which of its known images are classified right (for the training accuracy)."""

    total: Float[Tensor, ""]
    correct: Bool[Tensor, " b"]


class Objective(nn.Module):
    """Cross-entropy, and the base of every other objective; its own layers and state travel in the checkpoint.

    `own_score` names the score the method itself proposes: one of the post-hoc scores, or what `score` returns.
    """

    own_score = "msp"
    # Share of the optimizer steps done; the module sets it before every batch.
    progress = 0.0
    # Draws what is random in a batch; the module sets it, too.
    noise = BatchNoise(0, 0)

    def forward(self, network: Network, batch: Mapping[str, Any]) -> Loss:
        """Return the loss of a training batch (`image`, `label`, and `outlier` where the method takes outliers)."""
        seen = network(batch["image"])
        return Loss(functional.cross_entropy(seen.logits, batch["label"]), correct(seen.logits, batch["label"]))

    def score(self, seen: Seen) -> Float64[Tensor, " n"] | None:
        """Return the method's own uncertainty, larger = reject, or None where it has only post-hoc scores."""
        return None

    def quality(self, seen: Seen, labels: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return what validation averages to choose the tested weights, 0..1 a sample: whether the class is right."""
        return correct(seen.logits, labels).float()


class TwoStageObjective(Objective):
    """Cross-entropy first, then the method: real TCP and PROSER start from a trained classifier.

    Args:
        ce_fraction: share of the optimizer steps spent on cross-entropy; none when the run starts from a classifier.
    """

    first_stage_done: Bool[Tensor, ""]

    def __init__(self, ce_fraction: float) -> None:
        super().__init__()
        if not 0 <= ce_fraction < 1:
            raise ValueError(f"ce_fraction is a share of the training from 0 to below 1, not {ce_fraction}")
        self.ce_fraction = ce_fraction
        self.register_buffer("first_stage_done", torch.tensor(ce_fraction == 0))

    @property
    def second_stage(self) -> bool:
        """Whether the method's own stage has begun."""
        return self.progress >= self.ce_fraction or bool(self.first_stage_done)

    def forward(self, network: Network, batch: Mapping[str, Any]) -> Loss:
        """Return the loss of the stage that training is in."""
        return self.second_loss(network, batch) if self.second_stage else super().forward(network, batch)

    def second_loss(self, network: Network, batch: Mapping[str, Any]) -> Loss:
        """Return the loss of the method's own stage."""
        raise NotImplementedError

    def quality(self, seen: Seen, labels: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return the second stage's quality; below zero before it, so that weights of the first are never chosen."""
        if not self.second_stage:
            return super().quality(seen, labels) - 1
        return self.second_quality(seen, labels)

    def second_quality(self, seen: Seen, labels: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return the quality of weights of the second stage, 0..1 a sample."""
        return super().quality(seen, labels)


def correct(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """Return whether the largest logit is that of the true class."""
    return logits.argmax(dim=1) == labels


def outliers_of(batch: Mapping[str, Any], objective: str) -> Float[Tensor, "o c h w"]:
    """Return the outlier images of a batch.

    Raises:
        UserError: if the data gave none.
    """
    if "outlier" not in batch:
        raise UserError(
            f"model.objective: {objective} trains on outlier images, the data give none: data.outliers=true"
        )
    return batch["outlier"]
