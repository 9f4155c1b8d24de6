"""Few-shot UOSR: scores that know 1 or 5 reference images of each unknown class (code: fs_evaluate.py)."""

from typing import NamedTuple, TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor

from common.ranges import NonNegativeFloat, PositiveInt
from lightning_modules.uosr.outputs import Outputs, unit_rows
from lightning_modules.uosr.scores.fusion import Fusion, Range
from lightning_modules.uosr.scores.mahalanobis import Gaussian
from lightning_modules.uosr.scores.neighbours import top_similarities
from lightning_modules.uosr.scores.references import draw_tries
from lightning_modules.uosr.scores.softmax_scores import msp


class FewShotOptions(TypedDict):
    """Constants of the few-shot scores.

    Attributes:
        k: which neighbour the similarities s_k are of (5); among the references clipped to the shots, so 1 for 1-shot.
        alpha: steepness of FS-KNNS's gate (50).
        beta: the gate opens at mean - beta * std of the references (1 for images, 0.5 for videos).
        transductive: scale by the test samples too, as the official code does; otherwise a sample's score depends on
            training samples and references alone.
        self_match: count a reference as its own nearest reference, as the official code does.
    """

    k: PositiveInt
    alpha: NonNegativeFloat
    beta: NonNegativeFloat
    transductive: bool
    self_match: bool


DEFAULTS: FewShotOptions = {"k": 5, "alpha": 50.0, "beta": 1.0, "transductive": False, "self_match": False}


class Measured(NamedTuple):
    """What the scores of a test set are made of.

    Attributes:
        knn: 1 - cosine similarity to the nearest training feature.
        d: reference distance [1 - s_k(x, train)] + s_k(x, refs), each try its own.
        msp: softmax uncertainty 1 - max p.
        ssd: Mahalanobis to train less Mahalanobis to the references, each try its own.
    """

    knn: Float[Tensor, " n"]
    d: Float[Tensor, "tries n"]
    msp: Float[Tensor, " n"]
    ssd: Float[Tensor, "tries n"]


class FewShot:
    """Few-shot scores of one network, all tries at once.

    Args:
        train: outputs on the training samples.
        pool: outputs on the reference pool, labels = unknown class numbers; never a sample of the OoD test set.
        shots: references per unknown class and try.
        options: constants; `DEFAULTS` if left out.
    """

    def __init__(self, train: Outputs, pool: Outputs, shots: int, options: FewShotOptions | None = None) -> None:
        self.options = options = options or DEFAULTS
        self.shots, self.k, self.k_refs = shots, options["k"], min(options["k"], shots)
        self.tries: Int[Tensor, "tries refs"] = draw_tries(pool.labels, shots)
        self.train = train.features
        self.refs = pool.features[self.tries.flatten()]
        self.train_gaussian = Gaussian(unit_rows(train.features.double()))
        units = unit_rows(pool.features.double())
        self.ref_gaussians = [Gaussian(units[rows]) for rows in self.tries]
        self.d_train = self._to_refs(train.features)
        pool_term = 1 - top_similarities(pool.features, self.train, self.k)[0, :, -1]
        self.d_refs = pool_term[self.tries] + self._between_refs()
        self.msp_train, self.msp_refs = msp(train.logits), msp(pool.logits)[self.tries]

    def _to_refs(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "tries n"]:
        return top_similarities(features, self.refs, self.k_refs, groups=len(self.tries))[..., -1]

    def _between_refs(self) -> Float[Tensor, "tries refs"]:
        """Return s_k of each reference to those of its try."""
        count = self.tries.shape[1]
        # A lone reference has no other to be compared with.
        others = self.options["self_match"] or count == 1
        k = min(self.k_refs, count) if others else min(self.k_refs, count - 1) + 1
        rows = []
        for refs in self.refs.split(count):
            similar = unit_rows(refs) @ unit_rows(refs).T
            similar.fill_diagonal_(1.0 if others else 2.0)
            rows.append(similar.topk(k, 1).values[:, -1].clamp(-1, 1).double())
        return torch.stack(rows)

    def measure(self, outputs: Outputs) -> Measured:
        """Return what a test set's scores are made of; the search among training samples runs once for all tries."""
        similar = top_similarities(outputs.features, self.train, self.k)[0]
        units = unit_rows(outputs.features.double())
        ssd = self.train_gaussian(units) - torch.stack([gaussian(units) for gaussian in self.ref_gaussians])
        d = (1 - similar[:, -1]) + self._to_refs(outputs.features)
        return Measured(1 - similar[:, 0], d, msp(outputs.logits), ssd)

    def fusion(self, *tested: Measured) -> Fusion:
        """Return the fusion of scores; `tested` sets the scales only if the options say `transductive`."""
        if self.options["transductive"]:
            d_seen, msp_seen = [each.d for each in tested], [each.msp.unsqueeze(0) for each in tested]
        else:
            d_seen, msp_seen = [], [self.msp_train.expand(len(self.tries), -1), self.msp_refs]
        d_range = Range.of(self.d_train, self.d_refs, *d_seen)
        alpha, beta = self.options["alpha"], self.options["beta"]
        return Fusion(self.d_train, self.d_refs, d_range, Range.of(*msp_seen), alpha, beta)

    def scores(self, known: Outputs, ood: Outputs) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return every score of the known and of the unknown test samples, float64 [tries, n] and [tries, m]."""
        sides = [self.measure(known), self.measure(ood)]
        fusion = self.fusion(*sides)
        first, second = (self._named(side, fusion) for side in sides)
        return first, second

    def _named(self, side: Measured, fusion: Fusion) -> dict[str, Tensor]:
        plain = side.knn.expand(len(self.tries), -1)
        return {"knn": plain, "ssd": side.ssd} | fusion.scores(side.d, side.msp.unsqueeze(0))
