"""CovLasso: for every category, the sparse combination of others that is nearest to it in the second moment.

The problem of §2.2, theta_i(lam) = argmin theta^T C theta + lam ||theta||_1 with theta_i = -1, for all
categories and a path of lam at once. It is solved in coordinates in which C has a unit diagonal, so that neither the
scale of a logit nor its unit changes which categories are found: there lam_i = alpha lam_max,i with
lam_max,i = 2 max_j |C_ij| / sqrt(C_ii C_jj). In the logits' own scale that is a penalty
lam_i sqrt(C_ii) sum_j sqrt(C_jj) |w_ij| on the error; `unit_diagonal=False` gives the formula to the letter instead.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy import sparse

from lightning_modules.neural_dependency.solvers.lasso_path import ALPHAS, LassoPath
from lightning_modules.neural_dependency.solvers.scaling import (
    Indices,
    banned_sources,
    categories,
    checked_alphas,
    checked_gram,
    largest_pull,
    original_scale,
    scaled,
    scales,
)

# Least ratio of one alpha to the one before it (our choice).
RATIO = 0.4
# Dense room for the coefficients of one block of targets.
BLOCK_BYTES = 64 * 2**20


def covlasso_path(
    gram: Float[NDArray[np.float64], "k k"],
    alphas: Sequence[float] = ALPHAS,
    *,
    targets: Indices | None = None,
    sources: Indices | None = None,
    exclude: Indices | None = None,
    unit_diagonal: bool = True,
    tol: float = 1e-4,
    rounds: int = 200,
) -> LassoPath:
    """Solve CovLasso for many targets along a path of lam, on the CPU, all cores.

    A target is never its own source. For dependencies between networks give the moments of both side by side, the one's
    categories as targets and the other's as sources; with `exclude` the same category of the other network is left out.

    Args:
        gram: C, second moment or covariance; it may be singular, and categories of no power are never selected.
        alphas: shares of lam_max in (0, inf), in any order.
        targets: categories to predict; all if none are given.
        sources: categories to predict from; all if none are given.
        exclude: for every target one more category that it may not use, or -1.
        unit_diagonal: solve in coordinates of unit diagonal (see above).
        tol: KKT violation at which a solution is accepted, as a share of lam.
        rounds: most rounds of the working set per alpha.

    Returns:
        The path. A warning says so where the solver gave up.

    Raises:
        ValueError: the Gram is not square, symmetric and finite, or an alpha or a category is out of range.
    """
    # numba takes a second to import, which no one should pay who does not solve.
    from lightning_modules.neural_dependency.solvers.gram_kernel import solve_targets

    gram = checked_gram(gram)
    values = checked_alphas(alphas)
    into, use = categories(targets, len(gram)), categories(sources, len(gram))
    scale = scales(gram, unit_diagonal)
    shrunk = scaled(gram, use, use, scale)
    banned = banned_sources(into, use, exclude, len(gram))
    steps, places = warm_steps(values)
    violation, used = np.zeros((len(into), len(steps))), np.zeros((len(into), len(steps)), np.int64)
    rows: list[list[sparse.csr_array]] = [[] for _ in values]
    lam_max = np.zeros(len(into))
    step = max(16, BLOCK_BYTES // (8 * len(steps) * max(len(use), 1)))
    for start in range(0, len(into), step):
        part = slice(start, start + step)
        cross = scaled(gram, into[part], use, scale)
        lam_max[part] = 2 * largest_pull(cross, banned[part])
        weights = np.zeros((len(cross), len(steps), len(use)))
        solve_targets(shrunk, cross, banned[part], steps, tol, rounds, weights, violation[part], used[part])
        for found, place in zip(rows, places, strict=True):
            found.append(original_scale(weights[:, place], into[part], use, scale))
    stacked = tuple(sparse.vstack(parts, format="csr") for parts in rows)
    return LassoPath(values, into, stacked, lam_max, violation.T[places], used.T[places], tol).warn_if_short()


def warm_steps(
    alphas: Float[NDArray[np.float64], " a"],
) -> tuple[Float[NDArray[np.float64], " s"], Int[NDArray[np.int64], " a"]]:
    """Return decreasing alphas, with more between those that lie far apart, and the places of those asked for.

    A solution far from its warm start is slow to find, and on a singular Gram may not be found at all.
    """
    steps: list[float] = []
    for alpha in sorted(set(alphas.tolist()), reverse=True):
        last = steps[-1] if steps else max(1.0, alpha)
        between = math.ceil(math.log(last / alpha) / math.log(1 / RATIO) - 1e-9)
        steps += [float(step) for step in np.geomspace(last, alpha, between + 1)[1:-1]] + [alpha]
    return np.array(steps), np.array([steps.index(alpha) for alpha in alphas.tolist()])
