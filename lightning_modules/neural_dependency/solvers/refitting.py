"""Least squares on a support that the Lasso found."""

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import LinAlgError, cho_solve, cholesky

from lightning_modules.neural_dependency.solvers.scaling import Indices, checked_gram, scaled, scales

# A squared Cholesky pivot below this share of the diagonal makes a support singular (our choice).
SINGULAR = 1e-10


def refit(gram: Float[NDArray[np.float64], "k k"], weights: sparse.csr_array, targets: Indices) -> sparse.csr_array:
    """Return least squares on the support that the Lasso found, which undoes its shrinkage (§2.4).

    Args:
        gram: C, as for the Lasso.
        weights: sparse [T, K].
        targets: [T], the category of every row.

    Returns:
        Sparse [T, K] with the same support; on a singular one the solution of least norm at unit diagonal.
    """
    gram = checked_gram(gram)
    scale = scales(gram, unit_diagonal=True)
    data = np.empty(weights.nnz)
    for row, target in enumerate(np.asarray(targets)):
        span = slice(weights.indptr[row], weights.indptr[row + 1])
        support = weights.indices[span]
        inner = scaled(gram, support, support, scale)
        cross = scaled(gram, support, np.asarray([target]), scale)[:, 0]
        data[span] = least_squares(inner, cross) * scale[target] / scale[support]
    return sparse.csr_array((data, weights.indices.copy(), weights.indptr.copy()), shape=weights.shape)


def least_squares(
    gram: Float[NDArray[np.float64], "m m"], cross: Float[NDArray[np.float64], " m"]
) -> Float[NDArray[np.float64], " m"]:
    """Return gram^+ cross for a gram of unit diagonal."""
    try:
        factor = cholesky(gram, lower=True)
        if len(factor) == 0 or factor.diagonal().min() ** 2 > SINGULAR:
            return cho_solve((factor, True), cross)
    except LinAlgError:
        pass
    return np.asarray(np.linalg.lstsq(gram, cross, rcond=SINGULAR)[0], dtype=np.float64)
