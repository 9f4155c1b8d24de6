"""Many thousand categories of a linear head, without any K x K matrix (§2.9).

The moments are those of the features; errors are measured on the logits of the held-out split, block by block.
"""

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csr_array
from torch import Tensor, nn

from lightning_modules.neural_dependency.moments import Moments
from lightning_modules.neural_dependency.solvers.block_solver import factor_path, head_factor
from lightning_modules.neural_dependency.solvers.lasso_path import LassoPath

# Targets whose predictions are held at a time.
_BLOCK = 512


def solve_head(head: nn.Linear, features: Moments, alphas: list[float], tolerance: float, device: str) -> LassoPath:
    """Solve CovLasso, uncentred, for all categories of a linear head.

    Args:
        head: W [K, d] and b [K].
        features: moments of [z 1], d + 1 wide; without a bias of the head the last is dropped.
        alphas: the path.
        tolerance: KKT violation at which a solution is accepted, as a share of lam.
        device: where the matrix products are done.
    """
    second = torch.from_numpy(features.second)
    bias = None if head.bias is None else head.bias.detach().cpu()
    factor = head_factor(head.weight.detach().cpu(), bias, second if bias is not None else second[:-1, :-1])
    return factor_path(factor.to(device), alphas, tol=tolerance)


def with_one(features: Float[Tensor, "b d"]) -> Float[Tensor, "b e"]:
    """Return the features with a column of ones, which the bias multiplies."""
    return torch.cat([features, features.new_ones(len(features), 1)], dim=1)


def logit_errors(weights: csr_array, logits: Float[Tensor, "n k"]) -> dict[str, float]:
    """Return the medians over the categories of FVU and of the relative errors (L1 and rms), on held-out logits."""
    values = logits.float().numpy()
    columns: dict[str, list[np.ndarray]] = {"fvu": [], "l1": [], "rms": []}
    for start in range(0, weights.shape[0], _BLOCK):
        rows = slice(start, start + _BLOCK)
        truth = values[:, rows].astype(np.float64)
        error = truth - (weights[rows] @ values.T).T
        with np.errstate(invalid="ignore", divide="ignore"):
            columns["fvu"].append((error**2).mean(0) / truth.var(0))
            columns["l1"].append(np.abs(error).mean(0) / np.abs(truth).mean(0))
            columns["rms"].append(np.sqrt((error**2).mean(0) / (truth**2).mean(0)))
    return {name: float(np.nanmedian(np.concatenate(parts))) for name, parts in columns.items()}
