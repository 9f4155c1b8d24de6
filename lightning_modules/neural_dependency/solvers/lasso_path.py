"""What a CovLasso solver hands back: sparse solutions along a path, and how well each was solved."""

import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from scipy import sparse

# Shares of lam_max, a geometric path in eight steps to .05 (§2.9).
ALPHAS = tuple(float(alpha) for alpha in np.geomspace(1, 0.05, 9)[1:])


@dataclass(frozen=True)
class LassoPath:
    """Solutions of many targets along a path of lam.

    Args:
        alphas: [A], lam as a share of lam_max, in the order asked for.
        targets: [T], categories that are predicted.
        weights: for every alpha a sparse [T, K], w in the scale of the logits: f_i is about sum_j w_ij f_j. The entry
            of the target itself is absent; theta_ii = -1 is implied.
        lam_max: [T], least lam without any coefficient, in the coordinates of the solution.
        violation: [A, T], largest KKT violation over all sources, as a share of lam.
        rounds: [A, T], rounds of the solver, whatever a round of it is.
        tol: violation that was asked for.
    """

    alphas: Float[NDArray[np.float64], " a"]
    targets: Int[NDArray[np.int64], " t"]
    weights: tuple[sparse.csr_array, ...]
    lam_max: Float[NDArray[np.float64], " t"]
    violation: Float[NDArray[np.float64], "a t"]
    rounds: Int[NDArray[np.int64], "a t"]
    tol: float

    @property
    def converged(self) -> Bool[NDArray[np.bool_], "a t"]:
        """Return [A, T], whether the solver stopped by the KKT conditions and not by its patience."""
        return self.violation <= self.tol

    def warn_if_short(self) -> "LassoPath":
        """Return itself, after a warning if the solver gave up anywhere."""
        if not self.converged.all():
            warnings.warn(
                f"{int((~self.converged).sum())} of {self.converged.size} solutions did not converge; the worst KKT "
                f"violation is {self.violation.max():.1e} lam, {self.tol:.1e} were asked for.",
                stacklevel=3,
            )
        return self
