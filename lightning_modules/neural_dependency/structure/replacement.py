"""What a classifier still knows when one logit is replaced by its prediction from others (§2.4)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Floats = NDArray[np.floating]

# Predicted logits held at a time: 128 MB in float64.
_HELD = 16_000_000


class Replacement(NamedTuple):
    """Accuracies of each category i before and after logit i alone was replaced.

    Attributes:
        samples: int [K], test samples of the category.
        positive_before: [K], share of the category's samples that are classified rightly; NaN without samples.
        positive_after: [K], the same with the replaced logit.
        all_before: share of all samples that are classified rightly.
        all_after: [K], the same with the replaced logit. It barely moves for any replacement and proves nothing alone.
        false_before: int [K], samples of other categories that are taken for this one.
        false_after: int [K], the same with the replaced logit.
    """

    samples: NDArray[np.int64]
    positive_before: NDArray[np.float64]
    positive_after: NDArray[np.float64]
    all_before: float
    all_after: NDArray[np.float64]
    false_before: NDArray[np.int64]
    false_after: NDArray[np.int64]

    def means(self) -> dict[str, float]:
        """Return the means over the categories that have samples."""
        there = self.samples > 0
        columns = ("positive_before", "positive_after", "all_after", "false_before", "false_after")
        found = {name: float(np.mean(getattr(self, name)[there])) for name in columns}
        return found | {"all_before": self.all_before}


class _Rivals(NamedTuple):
    """The two largest logits of every sample, [n] each: where and how large; ties go to the lower category."""

    first: NDArray[np.int64]
    first_value: Floats
    second: NDArray[np.int64]
    second_value: Floats


def _rivals(logits: Floats) -> _Rivals:
    rows = np.arange(len(logits))
    first = logits.argmax(axis=1)
    rest = logits.copy()
    rest[rows, first] = -np.inf
    second = rest.argmax(axis=1)
    return _Rivals(first, logits[rows, first], second, logits[rows, second])


def predicted(weights: csr_array, inputs: Floats, intercept: Floats | None) -> Floats:
    """Return the predictions of the logits [rows, n] from `inputs` [n, K]; weights [rows, K]."""
    found = weights @ inputs.T
    return found if intercept is None else found + np.asarray(intercept)[:, None]


def replace_each(
    logits: Floats,
    labels: NDArray[np.integer],
    weights: csr_array,
    *,
    intercept: Floats | None = None,
    source: Floats | None = None,
) -> Replacement:
    """Replace the logits one at a time by what the others say of them, on held-out samples.

    Only one logit changes at a time, so it is compared with the largest of the others; no forward pass is repeated.

    Args:
        logits: [n, K], of the network.
        labels: int [n], 0 to K - 1.
        weights: sparse [K, K]; row i holds the coefficients w_i, without the self entry. Lasso or refit: say which.
        intercept: [K], what is added to each prediction, or nothing.
        source: [n, K'], logits of another network on the same samples that the predictions are made of instead.

    Raises:
        ValueError: if shapes do not fit, or a logit would be predicted from itself.
    """
    logits, labels, weights = np.asarray(logits), np.asarray(labels), csr_array(weights)
    inputs = logits if source is None else np.asarray(source)
    count, classes = logits.shape
    if labels.shape != (count,) or len(inputs) != count or weights.shape != (classes, inputs.shape[1]):
        raise ValueError(
            f"logits {logits.shape}, labels {labels.shape}, inputs {inputs.shape}, weights {weights.shape} do not fit"
        )
    if source is None and weights.diagonal().any():
        raise ValueError("a logit may not be predicted from itself: the diagonal of the weights must be empty")
    if classes < 2:
        raise ValueError("one logit alone has no rival")
    rivals = _rivals(logits)
    samples = np.bincount(labels, minlength=classes)
    right = rivals.first == labels
    after = np.empty((3, classes), np.int64)
    step = max(1, _HELD // max(1, count))
    for begin in range(0, classes, step):
        rows = slice(begin, min(begin + step, classes))
        found = predicted(weights[rows], inputs, None if intercept is None else intercept[rows])
        for offset, values in enumerate(found):
            after[:, begin + offset] = _counts(values, begin + offset, labels, rivals)
    hits, all_hits, false = after
    with np.errstate(invalid="ignore"):
        positive_before = np.bincount(labels[right], minlength=classes) / samples
        positive_after = hits / samples
    false_before = np.bincount(rivals.first[~right], minlength=classes)
    return Replacement(
        samples, positive_before, positive_after, float(right.mean()), all_hits / count, false_before, false
    )


def _counts(values: Floats, category: int, labels: NDArray[np.integer], rivals: _Rivals) -> tuple[int, int, int]:
    """Return right samples of the category, right samples of all, and false positives, with its logit replaced."""
    own = rivals.first == category
    rival = np.where(own, rivals.second, rivals.first)
    level = np.where(own, rivals.second_value, rivals.first_value)
    wins = (values > level) | ((values == level) & (category < rival))
    mine = labels == category
    hits = int((wins & mine).sum())
    others = int((~wins & (rival == labels)).sum())
    return hits, hits + others, int((wins & ~mine).sum())
