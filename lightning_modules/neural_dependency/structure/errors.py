"""How well a dependency predicts, on logits or on nothing but their held-out moments (§2.4).

Weights are sparse or dense [T, K] rows, w of `LassoPath`, for the categories `targets`. With `centre`, the mean of the
logits on the split of the fit, a prediction has an intercept: fhat_i = centre_i + sum_j w_ij (f_j - centre_j).
"""

from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from lightning_modules.neural_dependency.moments import Moments
from lightning_modules.neural_dependency.solvers.scaling import Indices

Weights: TypeAlias = sparse.csr_array | Float[NDArray[np.float64], "t k"]
Vector = Float[NDArray[np.float64], "t"]


def theta(weights: Weights, targets: Indices) -> sparse.csr_array:
    """Return the rows with theta_ii = -1 put in."""
    rows = sparse.csr_array(weights)
    count = rows.shape[0]
    own = sparse.csr_array((np.ones(count), (np.arange(count), np.asarray(targets))), shape=rows.shape)
    return (rows - own).tocsr()


def squared_error(
    weights: Weights, targets: Indices, moments: Moments, centre: Float[NDArray[np.float64], " k"] | None = None
) -> Vector:
    """Return E (f_i - fhat_i)^2 from second moments alone.

    Args:
        weights: [T, K].
        targets: [T], the category of every row.
        moments: of the split to evaluate on.
        centre: mean of the split of the fit if the fit was centred, None if it was not.
    """
    rows = theta(weights, targets)
    gram = moments.covariance(center=centre is not None)
    power = np.asarray((rows @ gram * rows.toarray()).sum(axis=1)).reshape(-1)
    # Another split has another mean, and the intercept is that of the fit.
    bias = 0.0 if centre is None else (rows @ (moments.mean - centre)) ** 2
    return np.maximum(power, 0.0) + bias


def fvu(
    weights: Weights, targets: Indices, moments: Moments, centre: Float[NDArray[np.float64], " k"] | None = None
) -> Vector:
    """Return the fraction of variance unexplained, E (f_i - fhat_i)^2 / Var(f_i); NaN for a constant logit.

    Arguments as for `squared_error`. It is 1 - R^2: an uncentred fit is measured against the variance as well.
    """
    variance = moments.variance()[np.asarray(targets)]
    found = np.full(len(variance), np.nan)
    return np.divide(squared_error(weights, targets, moments, centre), variance, out=found, where=variance > 0)


def predict(
    logits: Float[Tensor, "n k"], weights: Weights, centre: Float[NDArray[np.float64], " k"] | None, targets: Indices
) -> Float[Tensor, "n t"]:
    """Return fhat of every target, float64, on the CPU."""
    values = logits.detach().double().cpu().numpy()
    if centre is None:
        return torch.from_numpy(np.asarray((weights @ values.T).T))
    return torch.from_numpy(np.asarray((weights @ (values - centre).T).T) + centre[np.asarray(targets)])


def relative_l1(
    logits: Float[Tensor, "n k"],
    weights: Weights,
    targets: Indices,
    centre: Float[NDArray[np.float64], " k"] | None = None,
) -> Vector:
    """Return E |f_i - fhat_i| / E |f_i|, a relative error (our choice); NaN for a logit that is always 0."""
    truth = logits.detach().double().cpu()[:, torch.as_tensor(np.asarray(targets))]
    missed = (truth - predict(logits, weights, centre, targets)).abs().mean(0).numpy()
    size = truth.abs().mean(0).numpy()
    return np.divide(missed, size, out=np.full(len(size), np.nan), where=size > 0)
