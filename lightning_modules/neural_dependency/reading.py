"""What the logits of one network say: dependencies along the path, how sparse and exact, and what they join (§2.4).

Everything is fitted to the moments of one split and measured on another.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple, TypedDict

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from common.ranges import NonNegativeInt, PositiveFloat, PositiveFraction, PositiveInt, Range
from lightning_modules.neural_dependency.moments import Moments, SecondMoments
from lightning_modules.neural_dependency.solvers.covlasso import covlasso_path
from lightning_modules.neural_dependency.solvers.lasso_path import LassoPath
from lightning_modules.neural_dependency.solvers.omp import omp
from lightning_modules.neural_dependency.solvers.refitting import refit
from lightning_modules.neural_dependency.structure.controls import probabilities, rotated, shuffled
from lightning_modules.neural_dependency.structure.determinants import ols
from lightning_modules.neural_dependency.structure.emergence import doubling_sizes, emergence
from lightning_modules.neural_dependency.structure.errors import fvu, relative_l1, squared_error
from lightning_modules.neural_dependency.structure.replacement import replace_each

FORMS = {"uncentred": False, "centred": True}
CONTROLS = ("untrained", "rotated", "shuffled", "probabilities")


class AnalysisOptions(TypedDict):
    """How logits are read.

    `alphas` are the penalties, as shares of the least that leaves nothing; `alpha`, one of them, is that of the graph
    and of the dependencies that are kept. `num_nonzero` is the k of the k-sparse prediction. `min_subset` is the
    smallest number of categories of the emergence curve. `controls` are read beside the network.
    """

    alphas: list[PositiveFraction]
    alpha: PositiveFraction
    num_nonzero: PositiveInt
    tolerance: PositiveFloat
    min_subset: Annotated[int, Range(low=2)]
    controls: list[str]
    seed: NonNegativeInt


class Logits(NamedTuple):
    """A split as a network sees it.

    Attributes:
        values: [n, K], float32.
        labels: [n].
        moments: first and second moments of the values.
    """

    values: Float[Tensor, "n k"]
    labels: Int[Tensor, " n"]
    moments: Moments


class Dependencies(NamedTuple):
    """CovLasso of all categories, with or without an intercept, along the path.

    Attributes:
        path: the solutions.
        refits: least squares on the support of each.
        centre: mean of the logits where the fit has an intercept, else None.
        rows: figures of each alpha, as medians (counts, errors) or means (accuracies) over the categories.
    """

    path: LassoPath
    refits: list[csr_array]
    centre: Float[NDArray[np.float64], " k"] | None
    rows: list[dict[str, float]]

    def at(self, alpha: float) -> csr_array:
        """Return the Lasso weights [K, K] of an alpha of the path."""
        return self.path.weights[int(np.argmin(np.abs(self.path.alphas - alpha)))]


def moments_of(values: Float[Tensor, "n k"]) -> Moments:
    """Return the moments of logits that are at hand."""
    # One process alone comes here, with the logits of all.
    metric = SecondMoments(values.shape[1], sync_on_compute=False)
    metric.update(values)
    return metric.compute()


def solve(fit: Moments, test: Logits, options: AnalysisOptions, center: bool) -> Dependencies:
    """Solve CovLasso on the moments of the fit, and measure Lasso and refit on the test split.

    Raises:
        ValueError: if the fit has fewer samples than categories.
    """
    fit.check()
    gram, every = fit.covariance(center), np.arange(len(fit.mean))
    centre = fit.mean if center else None
    path = covlasso_path(gram, options["alphas"], tol=options["tolerance"])
    refits = [refit(gram, weights, every) for weights in path.weights]
    rows = []
    for number, alpha in enumerate(path.alphas):
        row = {"alpha": float(alpha), "nonzero": float(np.median(np.diff(path.weights[number].indptr)))}
        row["kkt"] = float(path.violation[number].max())
        for name, weights in (("lasso", path.weights[number]), ("refit", refits[number])):
            row |= {f"{key}_{name}": value for key, value in measured(weights, test, centre).items()}
        rows.append(row)
    return Dependencies(path, refits, centre, rows)


def measured(weights: csr_array, test: Logits, centre: Float[NDArray[np.float64], " k"] | None) -> dict[str, float]:
    """Return how well all categories are predicted, and what the classifier is worth with a predicted logit.

    Accuracies are in percent; the all-sample accuracy says little, as it is one logit of K that was replaced.
    """
    every = np.arange(len(test.moments.mean))
    errors, power = squared_error(weights, every, test.moments, centre), test.moments.second.diagonal()
    with np.errstate(invalid="ignore", divide="ignore"):
        found = {
            "fvu": np.nanmedian(fvu(weights, every, test.moments, centre)),
            "l1": np.nanmedian(relative_l1(test.values, weights, every, centre)),
            "rms": np.nanmedian(np.sqrt(errors / power)),
        }
    intercept = None if centre is None else centre - weights @ centre
    replaced = replace_each(test.values.numpy(), test.labels.numpy(), weights, intercept=intercept).means()
    found |= {
        "positive": 100 * replaced["positive_after"],
        "all": 100 * replaced["all_after"],
        "false": replaced["false_after"],
    }
    return {key: float(value) for key, value in found.items()}


def unreplaced(test: Logits) -> dict[str, float]:
    """Return the accuracies of the untouched classifier that the ones of `measured` stand beside."""
    nothing = csr_array((test.values.shape[1],) * 2)
    means = replace_each(test.values.numpy(), test.labels.numpy(), nothing).means()
    before = {"positive": 100 * means["positive_before"], "all": 100 * means["all_before"]}
    return before | {"false": means["false_before"]}


def sparse_and_dense(fit: Moments, test: Moments, terms: int) -> dict[str, float]:
    """Return the median held-out FVU of `num_nonzero` others (greedy, least squares) and of all, with intercepts."""
    gram, every = fit.covariance(center=True), np.arange(len(fit.mean))
    predictions = {"sparse": omp(gram, min(terms, len(gram) - 1)), "dense": ols(gram)}
    return {key: float(np.nanmedian(fvu(rows, every, test, fit.mean))) for key, rows in predictions.items()}


def curve(fit: Moments, test: Moments, options: AnalysisOptions) -> dict[str, dict[int, float]]:
    """Return the FVU of `sparse_and_dense` by the number of categories, on nested random subsets."""
    sizes = doubling_sizes(len(fit.mean), options["min_subset"])

    def figures(chosen: NDArray[np.int64]) -> Mapping[str, float]:
        return sparse_and_dense(fit.select(chosen), test.select(chosen), options["num_nonzero"])

    return emergence(len(fit.mean), sizes, figures, options["seed"])


def control_moments(name: str, fit: Logits, test: Logits, seed: int) -> tuple[Moments, Moments]:
    """Return the moments of fit and test of a control that is made of the network's own logits.

    Raises:
        ValueError: if there is no such control.
    """
    if name == "shuffled":
        return moments_of(shuffled(fit.values, seed)), moments_of(shuffled(test.values, seed + 1))
    if name == "rotated":
        mean = torch.from_numpy(fit.moments.mean)
        return moments_of(rotated(fit.values, mean, seed)), moments_of(rotated(test.values, mean, seed))
    if name == "probabilities":
        return moments_of(probabilities(fit.values)), moments_of(probabilities(test.values))
    raise ValueError(f"there is no control '{name}': take {', '.join(CONTROLS)}")


def path_table(rows: Sequence[Mapping[str, float]]) -> tuple[list[str], list[list[float | str]]]:
    """Return header and rows of the table of a path, Lasso above refit."""
    keys = ("fvu", "l1", "rms", "positive", "all", "false")
    cells: list[list[float | str]] = []
    for row in rows:
        for kind in ("lasso", "refit"):
            figures = [round(row[f"{key}_{kind}"], 4) for key in keys]
            cells.append([row["alpha"], kind, row["nonzero"], *figures, row["kkt"]])
    return ["alpha", "fit", "nonzero", "FVU", "L1", "rms", "positive %", "all %", "false positives", "KKT"], cells
