"""New categories for a frozen network: their logits are made of the logits it already has (§2.7).

A new category c gets f_c = sum_j theta_cj x_j + b_c, x being the base logits (or, for a linear probe, the features).
All new categories are fitted at once, by the softmax cross-entropy over [base logits, new logits] with an L1 term; base
images are the negatives. The protocol is ours.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lightning_modules.neural_dependency.unseen.sparse_softmax import SparseSoftmax, fista


class Unseen(NamedTuple):
    """Logits of new categories as a function of the inputs: `inputs @ weight.T + bias`.

    Attributes:
        weight: [c, d], in the units of the inputs, exact zeros where nothing is used.
        bias: [c].
        steps: steps that the fit took.
        violation: how far the optimality conditions are from holding, in the unit of the gradient.
    """

    weight: Float[Tensor, "c d"]
    bias: Float[Tensor, " c"]
    steps: int
    violation: float

    def __call__(self, inputs: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
        """Return the new logits, float64."""
        return inputs.double() @ self.weight.T + self.bias


class Scores(NamedTuple):
    """Accuracies over base and new categories together, every category weighing the same.

    Attributes:
        joint: of all categories.
        base: of the base categories, whose samples may now be taken for new ones.
        new: of the new categories.
        nonzero: mean number of coefficients of a new category.
    """

    joint: float
    base: float
    new: float
    nonzero: float


def few_shot(labels: Int[Tensor, " n"], shots: int | None, first_new: int, seed: int) -> Int[Tensor, " m"]:
    """Return the rows of all base samples and of `shots` samples of every new category (all of them for null).

    Raises:
        ValueError: if a new category has fewer samples.
    """
    if shots is None:
        return torch.arange(len(labels))
    generator = torch.Generator().manual_seed(seed)
    kept = [torch.nonzero(labels < first_new).flatten()]
    for category in labels[labels >= first_new].unique().tolist():
        rows = torch.nonzero(labels == category).flatten()
        if shots < 1 or len(rows) < shots:
            raise ValueError(f"category {category} has {len(rows)} samples, {shots} shots were asked for")
        kept.append(rows[torch.randperm(len(rows), generator=generator)[:shots]])
    return torch.cat(kept).sort().values


def _balanced(labels: Tensor) -> Tensor:
    """Return a weight for each sample, summing to 1, such that all categories weigh the same."""
    counts = labels.bincount().double()
    weights = 1 / counts[labels]
    return weights / weights.sum()


def fit_unseen(
    inputs: Float[Tensor, "n d"],
    base_logits: Float[Tensor, "n k"],
    labels: Int[Tensor, " n"],
    num_new: int,
    *,
    l1: float = 0.0,
    ridge: float = 1e-4,
    steps: int = 2000,
    tolerance: float = 1e-4,
) -> Unseen:
    """Fit the new categories by accelerated proximal gradient steps on all samples (FISTA with restarts), in float64.

    Minimised is CE + (l1 / c) sum |theta| + (ridge / 2) sum theta^2, with theta in units in which every input has a
    deviation of 1. Samples weigh such that all categories, base or new, count alike (our choice): else few shots drown.

    Args:
        inputs: what the new logits are made of: base logits, features, or a control.
        base_logits: frozen logits of the base categories.
        labels: 0 to k - 1 base, k to k + num_new - 1 new.
        num_new: number c of new categories.
        l1: strength of the L1 term, mean over the new categories.
        ridge: a small quadratic term, so that separable data have a finite answer (our choice).
        steps: at most so many.
        tolerance: it ends when the optimality conditions hold to this.

    Raises:
        ValueError: if a new category has no sample, or the sizes differ.
    """
    base = base_logits.shape[1]
    if not len(inputs) == len(base_logits) == len(labels):
        raise ValueError(f"{len(inputs)} inputs, {len(base_logits)} base logits, {len(labels)} labels do not fit")
    if (labels.bincount(minlength=base + num_new)[base:] == 0).any() or int(labels.max()) >= base + num_new:
        raise ValueError(f"every one of the {num_new} new categories needs a sample, and no label may be above them")
    weights = _balanced(labels)
    mean, scale = inputs.double().mean(0), inputs.double().std(0, correction=0)
    # A dead input is never used.
    scaled = torch.where(scale > 0, (inputs.double() - mean) / scale.clamp_min(1e-12), 0.0)
    # The intercept is one more column, which no penalty touches.
    design = torch.cat([scaled, torch.ones(len(scaled), 1, dtype=torch.float64, device=scaled.device)], dim=1)
    problem = SparseSoftmax(
        design, base_logits.double().logsumexp(1), labels - base, weights, num_new, l1 / num_new, ridge
    )
    theta, taken, violation = fista(problem, steps, tolerance)
    weight = torch.where(scale > 0, theta[:, :-1] / scale.clamp_min(1e-12), 0.0)
    return Unseen(weight, theta[:, -1] - weight @ mean, taken, violation)


def score_unseen(
    unseen: Unseen, inputs: Float[Tensor, "n d"], base_logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]
) -> Scores:
    """Return the accuracies on held-out samples of base and new categories.

    Raises:
        ValueError: if there are no samples of either kind.
    """
    base = base_logits.shape[1]
    predictions = torch.cat([base_logits.double(), unseen(inputs)], dim=1).argmax(dim=1)
    present, counts = labels.unique(return_counts=True)
    if not (present < base).any() or not (present >= base).any():
        raise ValueError("the test needs samples of base and of new categories")
    right = labels[predictions == labels].bincount(minlength=int(present.max()) + 1)[present] / counts.double()
    old, new = float(right[present < base].mean()), float(right[present >= base].mean())
    nonzero = float((unseen.weight != 0).sum(dim=1).double().mean())
    return Scores(float(right.mean()), old, new, nonzero)
