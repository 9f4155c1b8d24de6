"""The provable facts of spec section 2.3, to rounding."""

import numpy as np
import pytest

from lightning_modules.neural_dependency import bounds
from lightning_modules.neural_dependency.covlasso import covlasso_path
from lightning_modules.neural_dependency.errors import squared_error
from lightning_modules.neural_dependency.moments import Moments
from tests.neural_dependency.grams import gram


def unit(categories, features):
    second = gram(categories, features)
    return second / np.sqrt(np.outer(second.diagonal(), second.diagonal()))


def test_least_error_is_a_ratio_of_determinants():
    second = gram(20, 50)
    least = bounds.least_errors(second)
    assert np.allclose(least, 1 / np.linalg.inv(second).diagonal(), rtol=1e-8)
    for target in range(20):
        assert np.isclose(least[target], bounds.determinant_ratio(second, target), rtol=1e-8)
    found = squared_error(bounds.ols(second), np.arange(20), Moments(1, np.zeros(20), second))
    assert np.allclose(found, least, rtol=1e-6)


def test_an_exact_dependency_has_no_error():
    """Trap 7: rank at most d."""
    second = gram(20, 8)
    assert bounds.rank(second) == 8
    assert (bounds.least_errors(second) == 0).all()
    weights = bounds.ols(second)
    assert not weights.diagonal().any()
    errors = squared_error(weights, np.arange(20), Moments(1, np.zeros(20), second))
    assert (errors < 1e-12 * second.diagonal()).all()


def test_one_exact_dependency_among_free_categories():
    second = np.eye(5)
    second[0, 1] = second[1, 0] = 1.0
    second[4] = second[:, 4] = 0.0
    assert np.allclose(bounds.least_errors(second), [0, 0, 1, 1, 0])
    assert np.allclose(bounds.ols(second)[0], [0, 1, 0, 0, 0])


@pytest.mark.parametrize("alpha", [0.5, 0.1, 0.01])
def test_identity_and_bounds(alpha):
    second = unit(25, 60)
    path = covlasso_path(second, [alpha], tol=1e-9)
    least = bounds.least_errors(second)
    for target, weights in enumerate(path.weights[0].toarray()):
        lam = alpha * path.lam_max[target]
        error = bounds.error(second, weights, target)
        assert abs(error - least[target] - bounds.excess(second, weights, target)) < 1e-10
        assert np.abs(bounds.gradient_residual(second, weights, target)).max() <= lam / 2 * (1 + 1e-8)
        assert least[target] <= error <= bounds.spectral_bound(second, target, lam)
        assert error <= bounds.norm_bound(second, weights, target, lam)


def test_log_det_curve():
    second = gram(12, 40)
    curve = bounds.log_det_curve(second)
    expected = [np.linalg.slogdet(second[:m, :m])[1] for m in range(1, 13)]
    assert np.allclose(curve, expected, atol=1e-8)
    assert np.isclose(np.exp(curve[-1] - curve[-2]), bounds.least_errors(second)[-1], rtol=1e-8)
    assert np.isinf(bounds.log_det_curve(gram(12, 5))[5:]).all()
    assert np.isfinite(bounds.log_det_curve(gram(12, 5))[:5]).all()


def test_spectrum_and_effective_rank():
    assert np.isclose(bounds.effective_rank(np.eye(7)), 7)
    assert np.isclose(bounds.effective_rank(np.ones((7, 7))), 1)
    assert np.allclose(bounds.spectrum(np.diag([1.0, 3.0, 2.0])), [3, 2, 1])
