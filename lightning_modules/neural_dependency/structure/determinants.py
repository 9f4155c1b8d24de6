"""What the determinant of the second moments says of dependencies: least errors, rank and spectrum (§2.3).

Errors are in the units of the Gram that is given, so of squared logits for C itself.
"""

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from lightning_modules.neural_dependency.solvers.scaling import checked_gram, scaled, scales

Vector = Float[NDArray[np.float64], "k"]
Gram = Float[NDArray[np.float64], "k k"]

# Eigenvalues below this share of the largest, at unit diagonal, count as zero (our choice).
NULL = 1e-12
# A category belongs to an exact dependency if this share of it lies in the null space (our choice).
FREE = 1e-6


def _unit(gram: Gram) -> tuple[Gram, Vector]:
    """Return the Gram at unit diagonal and the scale of each category."""
    gram = checked_gram(gram)
    every, scale = np.arange(len(gram)), scales(gram, unit_diagonal=True)
    return scaled(gram, every, every, scale), scale


def _null_and_inverse(unit: Gram) -> tuple[Gram, Gram]:
    """Return the projection on the null space and the pseudo-inverse."""
    values, vectors = np.linalg.eigh(unit)
    zero = values <= NULL * max(values[-1], 0.0)
    null, rest = vectors[:, zero], vectors[:, ~zero]
    return null @ null.T, rest / values[~zero] @ rest.T


def least_errors(gram: Gram) -> Vector:
    """Return err_i(0) = C_ii - c^T Q^+ c of every category: 1 / (C^-1)_ii, or 0 if it is in an exact dependency."""
    unit, scale = _unit(gram)
    null, inverse = _null_and_inverse(unit)
    exact = null.diagonal() > FREE
    return np.where(exact, 0.0, scale**2 / np.where(exact, 1.0, inverse.diagonal()))


def ols(gram: Gram) -> Gram:
    """Return [K, K], the least squares of every category on all others, 0 on the diagonal (no penalty, no sparsity).

    In an exact dependency it is the row that the projection on the null space gives, whose error is 0.
    """
    unit, scale = _unit(gram)
    null, inverse = _null_and_inverse(unit)
    theta = np.where((null.diagonal() > FREE)[:, None], null, inverse)
    own = theta.diagonal()
    weights = -theta / np.where(own > 0, own, 1.0)[:, None] * scale[:, None] / scale
    np.fill_diagonal(weights, 0.0)
    return weights


def determinant_ratio(gram: Gram, target: int) -> float:
    """Return det(C) / det(Q), which is err_i(0): adding a redundant category makes the determinant collapse."""
    others = np.delete(np.delete(gram, target, 0), target, 1)
    sign, whole = np.linalg.slogdet(gram)
    return float(np.exp(whole - np.linalg.slogdet(others)[1])) if sign > 0 else 0.0


def spectrum(gram: Gram) -> Vector:
    """Return the eigenvalues, largest first, not negative."""
    return np.linalg.eigvalsh(checked_gram(gram))[::-1].clip(min=0.0)


def rank(gram: Gram) -> int:
    """Return how many eigenvalues are not zero beside the largest."""
    values = spectrum(gram)
    return int((values > NULL * max(float(values[0]), np.finfo(np.float64).tiny)).sum())


def effective_rank(gram: Gram) -> float:
    """Return exp of the entropy of the normalised eigenvalues (Roy and Vetterli 2007; our choice of several)."""
    values = spectrum(gram)
    shares = values[values > 0] / values.sum() if values.sum() > 0 else np.ones(1)
    return float(np.exp(-(shares * np.log(shares)).sum()))


def log_det_curve(gram: Gram) -> Vector:
    """Return log det of the leading m x m corner for m = 1 to K; -inf from the first exact dependency on.

    Its steps are the logarithms of the errors with which each category follows from those before it.
    """
    values, vectors = np.linalg.eigh(checked_gram(gram))
    # QR of a root of C, unlike Cholesky, also serves a singular C.
    triangle = np.asarray(np.linalg.qr(np.sqrt(values.clip(min=0.0))[:, None] * vectors.T, mode="r"))
    corner = triangle.diagonal() ** 2
    power = gram.diagonal()
    with np.errstate(divide="ignore"):
        steps = np.where(corner > NULL * power, np.log(corner), -np.inf)
    return np.cumsum(steps)
