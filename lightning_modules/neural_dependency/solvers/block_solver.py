"""CovLasso for a linear head without its Gram: accelerated proximal gradient by matrix products, on CPU or GPU.

Logits f = W z + b of d features have the second moment C = X^T X with X = S^{1/2} [W b]^T of d + 1 rows, S the second
moment of [z 1] (§2.9). A block of B targets costs 4 (d + 1) K B operations per iteration and no K x K
matrix. FISTA (Beck and Teboulle 2009) with the restart of O'Donoghue and Candes (2015), column by column.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from lightning_modules.neural_dependency.solvers.lasso_path import ALPHAS, LassoPath
from lightning_modules.neural_dependency.solvers.scaling import (
    Indices,
    banned_sources,
    categories,
    checked_alphas,
    original_scale,
)

# Iterations between two looks at the KKT conditions, which cost as much as an iteration (our choice).
LOOK = 20


def head_factor(
    weight: Float[Tensor, "k d"], bias: Float[Tensor, " k"] | None, features: Float[Tensor, "e e"]
) -> Float[Tensor, "e k"]:
    """Return X of a linear head, float64, with X^T X = E[f f^T].

    Args:
        weight: W.
        bias: b, if the head has one.
        features: S = E[z~ z~^T] with z~ = [z 1] (d + 1 wide), or E[z z^T] without a bias. For the centred problem give
            the covariance of z~ instead.
    """
    wide = weight if bias is None else torch.cat([weight, bias[:, None]], dim=1)
    values, vectors = torch.linalg.eigh(features.double())
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    return root @ wide.double().T


def factor_path(
    factor: Float[Tensor, "e k"],
    alphas: Sequence[float] = ALPHAS,
    *,
    targets: Indices | None = None,
    sources: Indices | None = None,
    exclude: Indices | None = None,
    tol: float = 2.5e-3,
    iterations: int = 20_000,
    block: int = 2048,
) -> LassoPath:
    """Solve CovLasso as `covlasso_path` does, in coordinates of unit diagonal, from a factor X of C = X^T X.

    Args:
        factor: X, in the precision and on the device to compute with; float32 reaches a violation of about 1e-3.
        alphas: shares of lam_max in (0, inf), in any order.
        targets: categories to predict; all if none are given.
        sources: categories to predict from; all if none are given.
        exclude: for every target one more category that it may not use, or -1.
        tol: KKT violation at which a solution is accepted, as a share of lam.
        iterations: most iterations per alpha and block.
        block: targets at a time; sets the memory, 5 K block numbers.

    Returns:
        The path; `rounds` counts iterations of a target's block. A warning says so where the solver gave up.
    """
    values, count = checked_alphas(alphas), factor.shape[1]
    into, use = categories(targets, count), categories(sources, count)
    banned = banned_sources(into, use, exclude, count)
    scale = factor.double().square().sum(0).sqrt()
    scale[scale == 0] = 1.0
    unit = factor / scale.to(factor.dtype)
    order = np.argsort(-values, kind="stable")
    rows: list[list[sparse.csr_array]] = [[] for _ in values]
    lam_max = np.zeros(len(into))
    violation, rounds = np.zeros((len(values), len(into))), np.zeros((len(values), len(into)), np.int64)
    for start in range(0, len(into), block):
        part = slice(start, start + block)
        problem = Block(unit[:, into[part]], unit[:, use], torch.from_numpy(banned[part]))
        lam_max[part] = 2 * problem.largest.double().cpu().numpy()
        for alpha in order:
            rounds[alpha, part], violation[alpha, part] = problem.solve(float(values[alpha]), tol, iterations)
            dense = problem.weights.T.double().cpu().numpy()
            rows[alpha].append(original_scale(dense, into[part], use, scale.cpu().numpy()))
    weights = tuple(sparse.vstack(parts, format="csr") for parts in rows)
    return LassoPath(values, into, weights, lam_max, violation, rounds, tol).warn_if_short()


class Block:
    """Some targets' problems, which keep their solution from one lam to the next.

    Args:
        targets: [d + 1, B], columns of unit length.
        sources: [d + 1, K'], columns of unit length.
        banned: [B, any], places among the sources that a target may not use, -1 for none.
    """

    def __init__(
        self, targets: Float[Tensor, "e b"], sources: Float[Tensor, "e s"], banned: Int[Tensor, "b n"]
    ) -> None:
        self.targets, self.sources = targets, sources
        self.allowed = torch.ones(sources.shape[1], targets.shape[1], dtype=torch.bool, device=targets.device)
        for column in banned.T.to(targets.device):
            kept = column >= 0
            self.allowed[column[kept], kept.nonzero()[:, 0]] = False
        self.weights = torch.zeros_like(self.allowed, dtype=targets.dtype)
        self.largest = self.residual(self.weights).abs().amax(0)
        self.curvature = torch.linalg.eigvalsh((sources @ sources.T).double())[-1].to(targets.dtype).clamp_min(1e-30)

    def residual(self, weights: Float[Tensor, "s b"]) -> Float[Tensor, "s b"]:
        """Return r = c - Q w, 0 where a target may not look."""
        return (self.sources.T @ (self.targets - self.sources @ weights)).mul_(self.allowed)

    def violation(self, threshold: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return the largest KKT violation of each target, as a share of lam; 0 for a target of no power."""
        rest = self.residual(self.weights)
        active = (rest - threshold * self.weights.sign()).abs()
        errors = torch.where(self.weights != 0, active, (rest.abs() - threshold).clamp_min(0))
        return torch.where(threshold > 0, errors.amax(0) / (2 * threshold), 0.0)

    def solve(self, alpha: float, tol: float, iterations: int) -> tuple[int, Float[NDArray[np.float64], " b"]]:
        """Go on from the last solution until all targets meet `tol`; return iterations and the KKT violations."""
        threshold = alpha * self.largest
        ahead, momentum = self.weights.clone(), torch.ones_like(threshold)
        done, violation = 0, self.violation(threshold)
        while violation.max() > tol and done < iterations:
            for _ in range(LOOK):
                ahead, momentum = self.step(ahead, momentum, threshold)
            done += LOOK
            violation = self.violation(threshold)
        return done, violation.double().cpu().numpy()

    def step(
        self, ahead: Float[Tensor, "s b"], momentum: Float[Tensor, " b"], threshold: Float[Tensor, " b"]
    ) -> tuple[Float[Tensor, "s b"], Float[Tensor, " b"]]:
        """Make one proximal step from the extrapolated point; a target that goes uphill loses its momentum."""
        new = shrink(ahead + self.residual(ahead) / self.curvature, threshold / self.curvature)
        moved = new - self.weights
        uphill = ((ahead - new) * moved).sum(0) > 0
        momentum = torch.where(uphill, 1.0, momentum)
        following = (1 + (1 + 4 * momentum.square()).sqrt()) / 2
        self.weights = new
        return new + (momentum - 1) / following * moved, following


def shrink(values: Float[Tensor, "s b"], threshold: Float[Tensor, " b"]) -> Float[Tensor, "s b"]:
    """Return the values, nearer to zero by the threshold."""
    return values.sign() * (values.abs() - threshold).clamp_min_(0)
