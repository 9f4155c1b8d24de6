"""Categories the network was never trained on, by the protocols and baselines of §2.7."""

from typing import NamedTuple, TypedDict

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from common.ranges import PositiveFloat, PositiveFraction, PositiveInt
from lightning_modules.neural_dependency.reading import moments_of
from lightning_modules.neural_dependency.solvers.covlasso import covlasso_path
from lightning_modules.neural_dependency.solvers.refitting import refit
from lightning_modules.neural_dependency.structure.controls import shuffled
from lightning_modules.neural_dependency.unseen.fitting import Scores, Unseen, few_shot, fit_unseen, score_unseen


class UnseenOptions(TypedDict):
    """How new categories are fitted.

    `l1` are strengths of the sparse fits, `shots` the images of a new category in the few-shot fits, `alpha` is the
    penalty of the fit to another network's logits.
    """

    l1: list[PositiveFloat]
    shots: list[PositiveInt]
    alpha: PositiveFraction


class Split(NamedTuple):
    """Base and new samples together.

    Attributes:
        logits: base logits [n, k].
        features: what the head reads [n, d].
        labels: [n]; new categories from k on.
        source: logits [n, k + c] of another network that was trained on all categories, or None.
    """

    logits: Float[Tensor, "n k"]
    features: Float[Tensor, "n d"]
    labels: Int[Tensor, " n"]
    source: Float[Tensor, "n c"] | None


def read_unseen(fit: Split, test: Split, num_new: int, options: UnseenOptions, seed: int) -> dict[str, Scores]:
    """Fit the new logits in every way, and score each on held-out samples of base and new categories.

    Returns:
        `dense` and `l1_...` on all samples, `...shot` on few (dense), the linear `probe` on features, the control
        `permuted` (base logits without their samples), and `from_network`, fitted to the other network's new logits.
    """
    base = fit.logits.shape[1]

    def scored(inputs: Tensor, tested: Tensor, l1: float = 0.0, shots: int | None = None) -> Scores:
        rows = few_shot(fit.labels, shots, base, seed)
        unseen = fit_unseen(inputs[rows], fit.logits[rows], fit.labels[rows], num_new, l1=l1)
        return score_unseen(unseen, tested, test.logits, test.labels)

    scores = {"dense": scored(fit.logits, test.logits)}
    scores |= {f"l1_{strength:g}": scored(fit.logits, test.logits, strength) for strength in options["l1"]}
    scores |= {f"{shots}shot": scored(fit.logits, test.logits, shots=shots) for shots in options["shots"]}
    scores["probe"] = scored(fit.features, test.features)
    scores["permuted"] = scored(shuffled(fit.logits, seed), shuffled(test.logits, seed + 1))
    if fit.source is not None:
        unseen = from_network(fit.logits, fit.source, options["alpha"])
        scores["from_network"] = score_unseen(unseen, test.logits, test.logits, test.labels)
    return scores


def from_network(logits: Float[Tensor, "n k"], source: Float[Tensor, "n c"], alpha: float) -> Unseen:
    """Return new logits that imitate those of a network trained on all categories: CovLasso between the two, refitted.

    Args:
        logits: base logits of the frozen network.
        source: logits of the other network; the columns after the first k are the new categories.
        alpha: penalty, as a share of the least that leaves nothing.
    """
    base, width = logits.shape[1], source.shape[1]
    # Two networks differ in the level of all logits together, which no softmax sees.
    level = source.double() - source[:, :base].double().mean(1, keepdim=True)
    wanted = level[:, base:] + logits.double().mean(1, keepdim=True)
    moments = moments_of(torch.cat([logits.double(), wanted], dim=1))
    gram, targets = moments.covariance(center=True), np.arange(base, width)
    path = covlasso_path(gram, [alpha], targets=targets, sources=np.arange(base))
    weights = refit(gram, path.weights[0], targets)[:, :base].toarray()
    bias = moments.mean[base:] - weights @ moments.mean[:base]
    rounds, violation = int(path.rounds.max()), float(path.violation.max())
    return Unseen(torch.from_numpy(weights), torch.from_numpy(bias), rounds, violation)
