"""Orthogonal matching pursuit for all categories at once: k sources each, the baseline with a fixed sparsity (§2.4)."""

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy import sparse

from lightning_modules.neural_dependency.solvers.scaling import (
    Indices,
    banned_sources,
    categories,
    checked_gram,
    original_scale,
    scaled,
    scales,
)

# Targets at a time; each needs k rows of the Gram.
BLOCK = 256
# A correlation with what is left below this is rounding (our choice).
NOTHING = 1e-9


def omp(
    gram: Float[NDArray[np.float64], "k k"],
    terms: int = 5,
    *,
    targets: Indices | None = None,
    sources: Indices | None = None,
    exclude: Indices | None = None,
) -> sparse.csr_array:
    """Select greedily, least squares after every choice, at unit diagonal.

    Args:
        gram: C.
        terms: sources per target; fewer are used where they explain a target exactly or there are no more.
        targets: categories to predict; all if none are given.
        sources: categories to predict from; all if none are given.
        exclude: for every target one more category that it may not use, or -1.

    Returns:
        Sparse [T, K] weights in the scale of the logits.

    Raises:
        ValueError: `terms` is not positive, or the Gram or a category is not valid.
    """
    if terms < 1:
        raise ValueError(f"{terms} terms: expected at least one")
    gram = checked_gram(gram)
    into, use = categories(targets, len(gram)), categories(sources, len(gram))
    scale = scales(gram, unit_diagonal=True)
    unit = scaled(gram, use, use, scale)
    banned = banned_sources(into, use, exclude, len(gram))
    rows = []
    for start in range(0, len(into), BLOCK):
        part = slice(start, start + BLOCK)
        weights = _pursue(unit, scaled(gram, into[part], use, scale), banned[part], min(terms, len(use)))
        rows.append(original_scale(weights, into[part], use, scale))
    return sparse.vstack(rows, format="csr")


def _pursue(
    unit: Float[NDArray[np.float64], "s s"],
    cross: Float[NDArray[np.float64], "t s"],
    banned: Int[NDArray[np.int64], "t n"],
    terms: int,
) -> Float[NDArray[np.float64], "t s"]:
    """Return dense weights of some targets."""
    every = np.arange(len(cross))
    open_places = np.ones(cross.shape, bool)
    for column in banned.T:
        open_places[every[column >= 0], column[column >= 0]] = False
    chosen = np.zeros((len(cross), 0), np.int64)
    used = np.zeros((len(cross), 0), bool)
    rest, values = cross, np.zeros((len(cross), 0))
    for _ in range(terms):
        pull = np.where(open_places, np.abs(rest), 0.0)
        best = pull.argmax(axis=1)
        chosen = np.column_stack([chosen, best])
        used = np.column_stack([used, pull[every, best] > NOTHING])
        open_places[every, best] = False
        # A term that is not used has an empty row, which the pseudo-inverse turns into a zero.
        inner = unit[chosen[:, :, None], chosen[:, None, :]] * used[:, :, None] * used[:, None, :]
        wanted = cross[every[:, None], chosen] * used
        values = np.einsum("tab,tb->ta", np.linalg.pinv(inner, rcond=1e-12, hermitian=True), wanted)
        rest = cross - np.einsum("ta,tas->ts", values, unit[chosen])
    weights = np.zeros(cross.shape)
    np.put_along_axis(weights, chosen, values, axis=1)
    return weights
