"""Logits brought to unit power, parts of their Gram, and what a target may use; shared by all solvers."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy import sparse

Indices = Sequence[int] | Int[NDArray[np.int64], "t"]


def checked_gram(gram: Float[NDArray[np.float64], "k k"]) -> Float[NDArray[np.float64], "k k"]:
    """Return the Gram as float64, or raise a ValueError that says what is wrong with it."""
    gram = np.asarray(gram, dtype=np.float64)
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1]:
        raise ValueError(f"the second moment has shape {gram.shape}: expected a square matrix")
    if not np.isfinite(gram).all():
        raise ValueError("the second moment holds NaN or infinity")
    if gram.diagonal().min(initial=0.0) < 0:
        raise ValueError("the second moment has a negative diagonal")
    roots = np.sqrt(gram.diagonal())
    # Row by row, for a mask of all pairs would be another K x K.
    if any(np.any(np.abs(gram[i] - gram[:, i]) > 1e-8 * roots[i] * roots) for i in range(len(gram))):
        raise ValueError("the second moment is not symmetric")
    return gram


def checked_alphas(alphas: Sequence[float]) -> Float[NDArray[np.float64], " a"]:
    """Return the shares of lam_max as an array, or raise a ValueError."""
    values = np.asarray(alphas, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0 or not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(f"alphas {list(alphas)}: expected positive numbers, at least one (least squares is `ols`)")
    return values


def categories(chosen: Indices | None, count: int) -> Int[NDArray[np.int64], " t"]:
    """Return category numbers, all of them for None, or raise a ValueError."""
    if chosen is None:
        return np.arange(count)
    numbers = np.asarray(chosen, dtype=np.int64).reshape(-1)
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < count):
        raise ValueError(f"a category of {numbers.min()} to {numbers.max()} is not among the {count} there are")
    return numbers


def scales(gram: Float[NDArray[np.float64], "k k"], unit_diagonal: bool) -> Float[NDArray[np.float64], " k"]:
    """Return what a logit is divided by: its root mean square, or one number for all; 1 for a dead one."""
    power = gram.diagonal()
    if not unit_diagonal:
        power = np.full(len(gram), power.max(initial=0.0))
    return np.sqrt(np.where(power > 0, power, 1.0))


def scaled(
    gram: Float[NDArray[np.float64], "k k"],
    rows: Int[NDArray[np.int64], " r"],
    columns: Int[NDArray[np.int64], " c"],
    scale: Float[NDArray[np.float64], " k"],
) -> Float[NDArray[np.float64], "r c"]:
    """Return a part of the Gram, contiguous, with logits divided by `scale`; all of a dead category is 0."""
    part = np.ascontiguousarray(gram[np.ix_(rows, columns)])
    part /= scale[rows, None]
    part /= scale[columns]
    dead = gram.diagonal() == 0
    part[dead[rows]] = 0.0
    part[:, dead[columns]] = 0.0
    return part


def banned_sources(
    targets: Int[NDArray[np.int64], " t"],
    sources: Int[NDArray[np.int64], " s"],
    exclude: Indices | None,
    count: int,
) -> Int[NDArray[np.int64], "t 2"]:
    """Return for every target the places among the sources that it may not use: its own and the excluded one, or -1."""
    place = np.full(count + 1, -1)
    place[sources] = np.arange(len(sources))
    more = np.full(len(targets), -1) if exclude is None else np.asarray(exclude, dtype=np.int64)
    if more.shape != targets.shape or np.any((more < -1) | (more >= count)):
        raise ValueError(f"exclude: expected {len(targets)} categories of {count}, or -1")
    # place[-1] is -1: no category, no place.
    return np.stack([place[targets], place[more]], axis=1)


def largest_pull(
    cross: Float[NDArray[np.float64], "t s"], banned: Int[NDArray[np.int64], "t 2"]
) -> Float[NDArray[np.float64], " t"]:
    """Return max |c_j| over the sources that a target may use."""
    pull = np.abs(cross)
    for column in banned.T:
        pull[np.flatnonzero(column >= 0), column[column >= 0]] = 0.0
    return pull.max(axis=1, initial=0.0)


def original_scale(
    weights: Float[NDArray[np.float64], "t s"],
    targets: Int[NDArray[np.int64], " t"],
    sources: Int[NDArray[np.int64], " s"],
    scale: Float[NDArray[np.float64], " k"],
) -> sparse.csr_array:
    """Return coefficients of scaled logits as sparse coefficients of the logits, [T, K]."""
    rows, places = np.nonzero(weights)
    columns = sources[places]
    values = weights[rows, places] * scale[targets[rows]] / scale[columns]
    found = sparse.csr_array((values, (rows, columns)), shape=(len(targets), len(scale)))
    found.sort_indices()
    return found
