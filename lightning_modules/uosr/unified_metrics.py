"""Metrics of unified open-set recognition: which of InC (accept), InW and OoD (reject) a score tells apart.

All of them are functions of how many samples of each kind there are at each distinct score, so one sort serves them all
and neither the order of the samples nor the order within ties matters.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

Counts = Float[np.ndarray, "levels"]
METRICS = ("acc", "aurc", "uosr", "osr", "inc_ood", "inc_inw", "inw_ood")


class Tally(NamedTuple):
    """Numbers of samples at each distinct score, lowest (most acceptable) first."""

    inc: Counts
    inw: Counts
    ood: Counts


def tally(known: Any, correct: Any, ood: Any) -> Tally:
    """Count InC, InW and OoD samples at each distinct uncertainty.

    Args:
        known: uncertainty of the known test samples, [n], larger = reject (array or CPU tensor).
        correct: whether each of them is rightly classified, bool [n].
        ood: uncertainty of the unknown test samples, [m].

    Raises:
        ValueError: if lengths differ, there is no sample, or a score is not a number.
    """
    known, correct, ood = np.asarray(known, np.float64), np.asarray(correct, bool), np.asarray(ood, np.float64)
    if known.shape != correct.shape or known.ndim != 1 or ood.ndim != 1:
        raise ValueError(f"scores {known.shape}, correctness {correct.shape} and OoD scores {ood.shape} do not fit")
    scores = np.concatenate([known, ood])
    if not scores.size:
        raise ValueError("there are no scores")
    if np.isnan(scores).any():
        raise ValueError(f"{int(np.isnan(scores).sum())} of {scores.size} scores are not a number")
    kinds = np.concatenate([np.where(correct, 0, 1), np.full(len(ood), 2)])
    levels, level = np.unique(scores, return_inverse=True)
    counts = np.bincount(level * 3 + kinds, minlength=3 * len(levels)).reshape(-1, 3).astype(np.float64)
    return Tally(*counts.T)


def auroc(accept: Counts, reject: Counts) -> float:
    """Return the probability in percent that a sample to reject scores above one to accept; ties count half.

    NaN if either kind has no samples.
    """
    pairs = accept.sum() * reject.sum()
    below = np.cumsum(accept) - accept / 2
    return float(100 * (reject @ below) / pairs) if pairs else float("nan")


def aurc(errors: Counts, total: Counts) -> float:
    """Return 1000 x the mean over k = 1..N of the error rate among the k lowest scores: a mean, no trapezoid (§2.1).

    Within a tie the order is undefined, so the risk is the expected one over all orders: each of its samples counts as
    the tie's share of errors.
    """
    share = np.repeat(errors / total, total.astype(np.int64))
    return float(1000 * np.mean(np.cumsum(share) / np.arange(1, len(share) + 1)))


def excess_aurc(errors: Counts, total: Counts) -> float:
    """Return E-AURC x 1000: AURC less r + (1 - r) ln(1 - r), the least AURC at error rate r, to first order in 1/N."""
    rate = float(errors.sum() / total.sum())
    least = rate + ((1 - rate) * np.log1p(-rate) if rate < 1 else 0.0)
    return aurc(errors, total) - float(1000 * least)


def average_precision(accept: Counts, reject: Counts) -> float:
    """Return AUPR in percent, samples to reject being the positives (step-wise, as scikit-learn does)."""
    if not reject.sum():
        return float("nan")
    found, seen = np.cumsum(reject[::-1]), np.cumsum((accept + reject)[::-1])
    return float(100 * np.sum(reject[::-1] * found / seen) / reject.sum())


def false_positive_rate(accept: Counts, reject: Counts, true_positive_rate: float = 0.95) -> float:
    """Return in percent the share of samples to accept that are rejected, at the ROC point nearest to the rate."""
    if not accept.sum() or not reject.sum():
        return float("nan")
    found = np.concatenate([[0.0], np.cumsum(reject[::-1])]) / reject.sum()
    false = np.concatenate([[0.0], np.cumsum(accept[::-1])]) / accept.sum()
    return float(100 * false[np.abs(found - true_positive_rate).argmin()])


def unified_metrics(known: Any, correct: Any, ood: Any) -> dict[str, float]:
    """Return the metrics of one score: percent as in the paper's tables, AURC and E-AURC x 1000, and the counts.

    Args: see `tally`.

    Returns:
        acc, aurc, uosr, osr, inc_ood, inc_inw, inw_ood; eaurc; aupr and fpr95 of the UOSR labels; n_inc, n_inw, n_ood.
        AURC, UOSR and the like depend on acc and on the number of OoD samples: compare at equal counts only.
    """
    inc, inw, ood = counts = tally(known, correct, ood)
    wrong, total = inw + ood, inc + inw + ood
    n_inc, n_inw, n_ood = (int(kind.sum()) for kind in counts)
    return {
        "acc": 100 * n_inc / (n_inc + n_inw) if n_inc + n_inw else float("nan"),
        "aurc": aurc(wrong, total),
        "uosr": auroc(inc, wrong),
        "osr": auroc(inc + inw, ood),
        "inc_ood": auroc(inc, ood),
        "inc_inw": auroc(inc, inw),
        "inw_ood": auroc(inw, ood),
        "eaurc": excess_aurc(wrong, total),
        "aupr": average_precision(inc, wrong),
        "fpr95": false_positive_rate(inc, wrong),
        "n_inc": n_inc,
        "n_inw": n_inw,
        "n_ood": n_ood,
    }


def mean_over_tries(known: Any, correct: Any, ood: Any) -> dict[str, float]:
    """Return `unified_metrics` averaged over the tries of a few-shot evaluation: known [tries, n], ood [tries, m]."""
    tries = [unified_metrics(one, correct, other) for one, other in zip(known, ood, strict=True)]
    return {name: type(tries[0][name])(np.mean([each[name] for each in tries])) for name in tries[0]}
