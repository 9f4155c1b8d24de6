"""How dependencies appear as categories are added: nested subsets of one network's logits (§3.2).

The logits of a network are read m at a time, each set holding the one before, so nothing is trained anew and only the
number of categories changes.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Measure = Callable[[NDArray[np.int64]], Mapping[str, float]]


def nested_subsets(num_classes: int, sizes: Sequence[int], seed: int = 0) -> dict[int, NDArray[np.int64]]:
    """Return for each size, rising, the first so many categories of one random order.

    Raises:
        ValueError: if a size is below 2 or above the number of categories.
    """
    if not sizes or min(sizes) < 2 or max(sizes) > num_classes:
        raise ValueError(f"sizes {list(sizes)} of {num_classes} categories: each should be 2 to {num_classes}")
    order = np.random.default_rng(seed).permutation(num_classes)
    return {size: np.sort(order[:size]) for size in sorted(set(sizes))}


def doubling_sizes(num_classes: int, first: int = 8) -> list[int]:
    """Return first, 2 first, 4 first ... up to the number of categories, which is the last one."""
    sizes = [first * 2**k for k in range(max(1, num_classes).bit_length()) if first * 2**k < num_classes]
    return [*sizes, num_classes]


def emergence(num_classes: int, sizes: Sequence[int], measure: Measure, seed: int = 0) -> dict[str, dict[int, float]]:
    """Return each measured figure by the number m of categories.

    Args:
        num_classes: number K of logits.
        sizes: the m, see `doubling_sizes`.
        measure: from category numbers [m] to figures, such as the median FVU of 5-sparse and of dense predictions.
        seed: seed of the order.
    """
    curves: dict[str, dict[int, float]] = {}
    for size, chosen in nested_subsets(num_classes, sizes, seed).items():
        for name, value in measure(chosen).items():
            curves.setdefault(name, {})[size] = float(value)
    return curves


def correlations(covariance: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the correlations of all pairs of different categories, [K (K - 1) / 2]; dead logits are left out."""
    covariance = np.asarray(covariance, np.float64)
    scale = np.sqrt(np.diag(covariance))
    alive = np.flatnonzero(scale > 0)
    kept = covariance[np.ix_(alive, alive)] / np.outer(scale[alive], scale[alive])
    return np.clip(kept[np.triu_indices(len(alive), 1)], -1, 1)
