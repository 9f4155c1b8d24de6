"""The scores that need no training of their own, fitted on the outputs of the training samples alone."""

from typing import TypedDict

import torch
from jaxtyping import Float
from torch import Tensor

from common.ranges import PositiveInt
from lightning_modules.uosr.outputs import Outputs
from lightning_modules.uosr.scores import softmax_scores
from lightning_modules.uosr.scores.feature_scores import Knn, Residual
from lightning_modules.uosr.scores.openmax import OpenMax
from lightning_modules.uosr.scores.sirc import Sirc, log_entropy


class PostHocOptions(TypedDict):
    """Constants of the post-hoc scores.

    Attributes:
        knn_k: which training neighbour KNN looks at (1, code: knn_evaluate.py).
        openmax_tail: tail size of OpenMax (20).
        openmax_alpha: classes that OpenMax revises (10).
    """

    knn_k: PositiveInt
    openmax_tail: PositiveInt
    openmax_alpha: PositiveInt


DEFAULTS: PostHocOptions = {"knn_k": 1, "openmax_tail": 20, "openmax_alpha": 10}


class PostHoc:
    """Post-hoc scores of one network; the official code takes SIRC's and ViM's statistics from the test set, we do not.

    Args:
        train: outputs on the training samples, without augmentation.
        weight: weight of the last linear layer, [k, d].
        bias: bias of the last linear layer, [k].
        options: constants; `DEFAULTS` if left out.
    """

    def __init__(
        self,
        train: Outputs,
        weight: Float[Tensor, "k d"],
        bias: Float[Tensor, " k"],
        options: PostHocOptions | None = None,
    ) -> None:
        options = options or DEFAULTS
        self.knn = Knn(train.features, options["knn_k"])
        self.residual = Residual(train.features, weight, bias)
        self.openmax = OpenMax(train.logits, train.labels, options["openmax_tail"], options["openmax_alpha"])
        residual = self.residual(train.features)
        least = torch.finfo(torch.float64).tiny
        self.alpha = float(train.logits.double().amax(1).mean() / residual.mean().clamp_min(least))
        # The scale alpha of -alpha * residual cancels in SIRC, which standardises its second score.
        self.sirc_residual = Sirc.fit(-residual)
        self.sirc_length = Sirc.fit(_length(train.features))

    def scores(self, outputs: Outputs) -> dict[str, Float[Tensor, " n"]]:
        """Return every score by its key, float64, larger = reject; `odin` only if the network has added it."""
        logits, residual, length = outputs.logits, self.residual(outputs.features), _length(outputs.features)
        entropy, energy = softmax_scores.entropy(logits), softmax_scores.energy(logits)
        log_msp, log_h = softmax_scores.log_rest(logits), log_entropy(entropy)
        scores = {
            "msp": log_msp.exp(),
            "max_logit": softmax_scores.max_logit(logits),
            "energy": energy,
            "entropy": entropy,
            "doctor": softmax_scores.doctor(logits),
            "knn": self.knn(outputs.features),
            "residual": residual,
            "vim": self.alpha * residual + energy,
            "sirc_msp_z": self.sirc_length(log_msp, length),
            "sirc_msp_res": self.sirc_residual(log_msp, -residual),
            "sirc_h_z": self.sirc_length(log_h, length),
            "sirc_h_res": self.sirc_residual(log_h, -residual),
            "openmax": self.openmax(logits),
        }
        return scores | {name: outputs.extra[name].double() for name in ("odin",) if name in outputs.extra}


def _length(features: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Return ||z||_1."""
    return torch.linalg.vector_norm(features.double(), ord=1, dim=1)
