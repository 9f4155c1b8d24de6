"""CovLasso for every category against scikit-learn's `lasso_path` and skglm, which take one target at a time.

Made-up second moments of K logits of a hierarchy with attributes, 8 alphas to .05. scikit-learn gets `precompute=`,
`Xy=`, a y with y^T y = C_ii, and a copy of the Gram without the target, as a user would write it; skglm, where it can
be imported, the same copy as a Hessian. Both are timed on every tenth target and the time of all is ten times that
(`--targets 0` times all). `OMP_NUM_THREADS=2 python benchmarks/covlasso.py` takes one to two minutes.
"""

import argparse
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import lasso_path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lightning_modules.neural_dependency.solvers.covlasso import covlasso_path
from lightning_modules.neural_dependency.solvers.lasso_path import ALPHAS, LassoPath

Array = NDArray[np.float64]
Solver = Callable[[Array, Array, Array], Array]
REPEATS = 3


def hierarchical(categories: int, features: int = 1200, seed: int = 0) -> Array:
    """Return a Gram of unit diagonal and condition number about 1e6 at K = 1000; K > features is singular."""
    rng = np.random.default_rng(seed)
    places = np.arange(categories)
    rows = 0.5 * rng.standard_normal((categories, features))
    for groups, share in ((1, 1.0), (8, 0.7), (32, 0.7), (128, 0.7)):
        rows += share * rng.standard_normal((groups, features))[places * groups // categories]
    attributes = rng.standard_normal((60, features))
    for _ in range(3):
        rows += 0.7 * attributes[rng.integers(60, size=categories)]
    rows *= np.arange(1, features + 1) ** -0.5
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows @ rows.T


def by_sklearn(gram: Array, cross: Array, thresholds: Array) -> Array:
    """Return coefficients [A, K - 1] of scikit-learn for one target of C_ii = 1."""
    # One row makes its alpha lam / 2; its y has y^T y = C_ii, for its tolerance.
    options = {"precompute": gram, "Xy": cross, "check_input": False}
    return lasso_path(np.zeros((1, len(cross))), np.ones(1), alphas=thresholds, **options)[1].T


def by_skglm(gram: Array, cross: Array, thresholds: Array) -> Array:
    """Return coefficients [A, K - 1] of skglm for one target, warm from one alpha to the next."""
    from skglm.datafits import QuadraticHessian
    from skglm.penalties import L1
    from skglm.solvers import AndersonCD
    from skglm.utils.jit_compilation import compiled_clone

    solver = AndersonCD(tol=1e-6, fit_intercept=False, warm_start=True)
    datafit, found, start = compiled_clone(QuadraticHessian()), [], np.zeros(len(cross))
    for threshold in thresholds:
        penalty, product = compiled_clone(L1(threshold)), gram @ start
        start = solver.solve(gram, -cross, datafit, penalty, w_init=start, Xw_init=product)[0]
        found.append(start.copy())
    return np.array(found)


def compare(name: str, solver: Solver, second: Array, path: LassoPath, seconds: float, every: int) -> None:
    """Solve some targets one by one and print time, ratio and differences of the objective."""
    spent, worst, better = 0.0, 0.0, 0.0
    targets = range(0, len(second), every)
    dense = [weights.toarray() for weights in path.weights]
    for target in targets:
        start = time.perf_counter()
        others = np.delete(np.arange(len(second)), target)
        gram, cross = np.ascontiguousarray(second[np.ix_(others, others)]), second[others, target]
        thresholds = path.alphas * np.abs(cross).max()
        theirs = solver(gram, cross, thresholds)
        spent += time.perf_counter() - start
        for threshold, one, two in zip(thresholds, dense, theirs, strict=True):
            values = [
                w @ gram @ w - 2 * cross @ w + 2 * threshold * np.abs(w).sum() for w in (one[target, others], two)
            ]
            worst, better = max(worst, values[0] - values[1]), max(better, values[1] - values[0])
    whole = spent * len(second) / len(targets)
    print(
        f"  {name}: {spent:.1f} s for {len(targets)} targets, {whole:.1f} s for all, {whole / seconds:.0f} times ours; "
        f"objective of ours above theirs by {worst:.1e} at most, theirs above ours by {better:.1e} (C_ii = 1)",
        flush=True,
    )


def measured(second: Array, repeats: int) -> tuple[LassoPath, float, float, float]:
    """Return the path, the least seconds and processor seconds of the repeats, and MiB that the peak memory grew by."""
    before, times = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    for _ in range(repeats):
        start, processor = time.perf_counter(), time.process_time()
        path = covlasso_path(second)
        times.append((time.perf_counter() - start, time.process_time() - processor))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return path, min(t[0] for t in times), min(t[1] for t in times), grown


def main() -> None:
    """Measure ours for all sizes, then the others at one size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 1000, 2000, 5000])
    parser.add_argument("--against", type=int, default=1000, help="K of the comparison")
    parser.add_argument("--targets", type=int, default=100, help="targets the others are timed on; 0 for all")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", module="sklearn|skglm")
    covlasso_path(hierarchical(50))
    print(f"{len(ALPHAS)} alphas to {min(ALPHAS)}, all targets, {numba.get_num_threads()} threads")
    for size in options.sizes:
        path, wall, processor, grown = measured(hierarchical(size), REPEATS if size <= 2000 else 1)
        filled = np.median(np.diff(path.weights[-1].indptr))
        print(
            f"  ours, K = {size}: {wall:.2f} s ({processor:.2f} s of processor), peak memory + {grown:.0f} MiB, "
            f"median {filled:.0f} non-zeros, KKT violation {path.violation.max():.1e} lam",
            flush=True,
        )
    second = hierarchical(options.against)
    path, wall, processor, _ = measured(second, REPEATS)
    print(f"K = {options.against}, condition number {np.linalg.cond(second):.1e}; ours {wall:.2f} s", flush=True)
    every = max(1, options.against // options.targets) if options.targets else 1
    compare("scikit-learn", by_sklearn, second, path, wall, every)
    try:
        import skglm  # noqa: F401
    except ImportError:
        print("  skglm: not installed")
        return
    by_skglm(second[1:6, 1:6].copy(), second[1:6, 0].copy(), np.array([0.1]))
    compare("skglm", by_skglm, second, path, wall, every)


if __name__ == "__main__":
    main()
