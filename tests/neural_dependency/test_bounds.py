"""The provable facts of §2.3, to rounding."""

import numpy as np
import pytest

from lightning_modules.neural_dependency.moments import Moments
from lightning_modules.neural_dependency.solvers.covlasso import covlasso_path
from lightning_modules.neural_dependency.structure import determinants
from lightning_modules.neural_dependency.structure.errors import squared_error
from tests.neural_dependency.grams import gram


def unit(categories, features):
    second = gram(categories, features)
    return second / np.sqrt(np.outer(second.diagonal(), second.diagonal()))


def test_least_error_is_a_ratio_of_determinants():
    second = gram(20, 50)
    least = determinants.least_errors(second)
    assert np.allclose(least, 1 / np.linalg.inv(second).diagonal(), rtol=1e-8)
    for target in range(20):
        assert np.isclose(least[target], determinants.determinant_ratio(second, target), rtol=1e-8)
    found = squared_error(determinants.ols(second), np.arange(20), Moments(1, np.zeros(20), second))
    assert np.allclose(found, least, rtol=1e-6)


def test_an_exact_dependency_has_no_error():
    """§2.3: rank at most d."""
    second = gram(20, 8)
    assert determinants.rank(second) == 8
    assert (determinants.least_errors(second) == 0).all()
    weights = determinants.ols(second)
    assert not weights.diagonal().any()
    errors = squared_error(weights, np.arange(20), Moments(1, np.zeros(20), second))
    assert (errors < 1e-12 * second.diagonal()).all()


def test_one_exact_dependency_among_free_categories():
    second = np.eye(5)
    second[0, 1] = second[1, 0] = 1.0
    second[4] = second[:, 4] = 0.0
    assert np.allclose(determinants.least_errors(second), [0, 0, 1, 1, 0])
    assert np.allclose(determinants.ols(second)[0], [0, 1, 0, 0, 0])


# The paper's identity and its two bounds; a weight row is w over all K categories, 0 at the target.


def gradient_residual(second, weights, target):
    """Return r = c - Q w over the other categories, [K - 1]."""
    return np.delete(second[:, target] - second @ weights, target)


def error_of(second, weights, target):
    """Return err_i = theta^T C theta."""
    theta = weights.copy()
    theta[target] = -1.0
    return float(theta @ second @ theta)


def excess(second, weights, target):
    """Return r^T Q^+ r, by which err_i(w) exceeds err_i(0), exactly."""
    others = np.delete(np.delete(second, target, 0), target, 1)
    rest = gradient_residual(second, weights, target)
    return float(rest @ np.linalg.lstsq(others, rest, rcond=None)[0])


def spectral_bound(second, target, lam):
    """Return err_i(0) + (K - 1) lam^2 / (4 lmin(Q)), for the solution at `lam` in the coordinates of the Gram."""
    others = np.delete(np.delete(second, target, 0), target, 1)
    smallest = float(np.linalg.eigvalsh(others)[0])
    slack = len(others) * lam**2 / (4 * smallest) if smallest > 0 else np.inf
    return float(determinants.least_errors(second)[target]) + slack


def norm_bound(second, weights, target, lam):
    """Return err_i(0) + lam (||w_0||_1 - ||w||_1), w_0 the least squares."""
    shrunk = np.abs(determinants.ols(second)[target]).sum() - np.abs(weights).sum()
    return float(determinants.least_errors(second)[target] + lam * shrunk)


@pytest.mark.parametrize("alpha", [0.5, 0.1, 0.01])
def test_identity_and_bounds(alpha):
    second = unit(25, 60)
    path = covlasso_path(second, [alpha], tol=1e-9)
    least = determinants.least_errors(second)
    for target, weights in enumerate(path.weights[0].toarray()):
        lam = alpha * path.lam_max[target]
        error = error_of(second, weights, target)
        assert abs(error - least[target] - excess(second, weights, target)) < 1e-10
        assert np.abs(gradient_residual(second, weights, target)).max() <= lam / 2 * (1 + 1e-8)
        assert least[target] <= error <= spectral_bound(second, target, lam)
        assert error <= norm_bound(second, weights, target, lam)


def test_log_det_curve():
    second = gram(12, 40)
    curve = determinants.log_det_curve(second)
    expected = [np.linalg.slogdet(second[:m, :m])[1] for m in range(1, 13)]
    assert np.allclose(curve, expected, atol=1e-8)
    assert np.isclose(np.exp(curve[-1] - curve[-2]), determinants.least_errors(second)[-1], rtol=1e-8)
    assert np.isinf(determinants.log_det_curve(gram(12, 5))[5:]).all()
    assert np.isfinite(determinants.log_det_curve(gram(12, 5))[:5]).all()


def test_spectrum_and_effective_rank():
    assert np.isclose(determinants.effective_rank(np.eye(7)), 7)
    assert np.isclose(determinants.effective_rank(np.ones((7, 7))), 1)
    assert np.allclose(determinants.spectrum(np.diag([1.0, 3.0, 2.0])), [3, 2, 1])
