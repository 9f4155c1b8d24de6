"""Dependencies between two networks on the same inputs: one's logits from the other's (§2.5)."""

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lightning_modules.neural_dependency.moments import Moments
from lightning_modules.neural_dependency.reading import AnalysisOptions, Logits, moments_of
from lightning_modules.neural_dependency.solvers.covlasso import covlasso_path
from lightning_modules.neural_dependency.solvers.refitting import refit
from lightning_modules.neural_dependency.structure.errors import fvu
from lightning_modules.neural_dependency.structure.replacement import replace_each


def read_between(
    fit: tuple[Logits, Logits], test: tuple[Logits, Logits], options: AnalysisOptions
) -> dict[str, dict[str, float]]:
    """Predict every logit of a target network from the logits of a source network, with an intercept.

    Args:
        fit: the split of the fit, as target and source see it, in the same order.
        test: the held-out split, likewise.
        options: `alpha` is the penalty.

    Returns:
        For "excluded" (the same category of the source is left out), "included" and "own" (nothing but it): median
        number of coefficients, median FVU of Lasso and refit, positive accuracy in percent before and after.

    Raises:
        ValueError: if the splits do not go together row by row.
    """
    for target, source in (fit, test):
        if not target.labels.equal(source.labels) or target.values.shape != source.values.shape:
            raise ValueError("the two networks' logits do not go together: other rows, or another number of categories")
    moments, held_out = _joined(*fit), _joined(*test)
    gram, count = moments.covariance(center=True), fit[0].values.shape[1]
    targets, sources = np.arange(count), count + np.arange(count)
    figures = {}
    for name, exclude in (("excluded", sources), ("included", None)):
        path = covlasso_path(
            gram, [options["alpha"]], targets=targets, sources=sources, exclude=exclude, tol=options["tolerance"]
        )
        lasso = path.weights[0]
        fitted = refit(gram, lasso, targets)
        figures[name] = {"nonzero": float(np.median(np.diff(lasso.indptr))), "kkt": float(path.violation.max())}
        for kind, weights in (("lasso", lasso), ("refit", fitted)):
            figures[name] |= _measured(kind, weights, moments.mean, held_out, test)
    slope = gram[sources, targets] / np.where(gram[sources, sources] > 0, gram[sources, sources], 1.0)
    own = csr_array((slope, (targets, sources)), shape=(count, 2 * count))
    figures["own"] = {"nonzero": 1.0} | _measured("refit", own, moments.mean, held_out, test)
    return figures


def _joined(target: Logits, source: Logits) -> Moments:
    """Return the moments of both side by side."""
    return moments_of(torch.cat([target.values, source.values], dim=1))


def _measured(
    kind: str,
    weights: csr_array,
    mean: Float[NDArray[np.float64], " k"],
    held_out: Moments,
    test: tuple[Logits, Logits],
) -> dict[str, float]:
    target, source = test
    count = target.values.shape[1]
    errors = fvu(weights, np.arange(count), held_out, mean)
    from_source = csr_array(weights)[:, count:]
    intercept = mean[:count] - from_source @ mean[count:]
    replaced = replace_each(
        target.values.numpy(), target.labels.numpy(), from_source, intercept=intercept, source=source.values.numpy()
    ).means()
    found = {"fvu": float(np.nanmedian(errors))}
    found |= {key: 100 * replaced[key] for key in ("positive_before", "positive_after")}
    return {f"{key}_{kind}": value for key, value in found.items()}
