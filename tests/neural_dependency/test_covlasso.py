"""CovLasso against its own conditions, a planted truth and scikit-learn (§2.2, §2.9)."""

import resource
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso

from benchmarks.covlasso import by_sklearn, hierarchical
from lightning_modules.neural_dependency.moments import Moments, SecondMoments
from lightning_modules.neural_dependency.solvers.covlasso import covlasso_path
from lightning_modules.neural_dependency.solvers.refitting import refit
from lightning_modules.neural_dependency.structure.errors import fvu, relative_l1, squared_error
from tests.neural_dependency.grams import factor, gram, kkt

DEEP = np.geomspace(1, 1e-3, 9)[1:]


def moments(second, mean=None):
    return Moments(10**6, np.zeros(len(second)) if mean is None else mean, second)


@pytest.mark.parametrize(("categories", "features", "mean"), [(80, 200, 0), (80, 200, 5), (80, 30, 0), (60, 60, 3)])
def test_kkt_at_every_alpha_and_target(categories, features, mean):
    """§2.2 with condition numbers from 1e5 to infinity and alphas down to .001."""
    second = gram(categories, features, mean=mean)
    path = covlasso_path(second, DEEP)
    assert path.converged.all()
    found = kkt(second, path)
    assert found.max() < 1e-3
    assert np.abs(found - path.violation).max() < 1e-5
    for weights in path.weights:
        assert not weights.toarray().diagonal().any()
        assert np.isfinite(weights.data).all()
        errors = squared_error(weights, path.targets, moments(second))
        assert features < categories or (errors > 0).all()


def test_errors_fall_and_norms_grow_along_the_path():
    second = gram(50, 100)
    unit = second / np.sqrt(np.outer(second.diagonal(), second.diagonal()))
    path = covlasso_path(unit, DEEP)
    errors = np.array([squared_error(weights, path.targets, moments(unit)) for weights in path.weights])
    norms = np.array([np.abs(weights.toarray()).sum(1) for weights in path.weights])
    assert (np.diff(errors, axis=0) <= 1e-9).all()
    assert (np.diff(norms, axis=0) >= -1e-9).all()


def test_order_of_alphas_is_kept():
    second = gram(30, 60)
    one, two = covlasso_path(second, [0.1, 0.5, 0.3]), covlasso_path(second, [0.5, 0.3, 0.1])
    for a, b in ((0, 2), (1, 0), (2, 1)):
        assert np.allclose(one.weights[a].toarray(), two.weights[b].toarray(), atol=1e-6)
        assert np.array_equal(one.violation[a], two.violation[b])


def test_lam_max_is_the_least_that_selects_nothing():
    """§2.2."""
    path = covlasso_path(gram(40, 90), [2.0, 1.0, 0.999])
    assert path.weights[0].nnz == path.weights[1].nnz == 0
    assert (np.diff(path.weights[2].indptr) >= 1).all()


@pytest.mark.parametrize("unit_diagonal", [True, False])
def test_agrees_with_scikit_learn_on_rows(unit_diagonal):
    """§2.2 and §2.9: Lasso with alpha = lam / 2 on Cholesky rows scaled by sqrt(n), with the true y."""
    second = gram(40, 90)
    if unit_diagonal:
        second /= np.sqrt(np.outer(second.diagonal(), second.diagonal()))
    path = covlasso_path(second, [0.3, 0.1], unit_diagonal=unit_diagonal, tol=1e-7)
    rows = np.linalg.cholesky(second).T * np.sqrt(len(second))
    for target in range(0, 40, 7):
        others = np.delete(np.arange(40), target)
        top = np.abs(second[target, others]).max()
        for alpha, weights in zip(path.alphas, path.weights, strict=True):
            reference = Lasso(alpha=alpha * top, fit_intercept=False, tol=1e-12, max_iter=100_000)
            reference.fit(rows[:, others], rows[:, target])
            mine = weights.toarray()[target, others]
            assert np.abs(mine - reference.coef_).max() < 1e-5
            assert mine.any()
            one, two = (
                second[target, target] - 2 * w @ second[others, target] + w @ second[np.ix_(others, others)] @ w
                + 2 * alpha * top * np.abs(w).sum()
                for w in (mine, reference.coef_)
            )  # fmt: skip
            assert abs(one - two) < 1e-8 * second[target, target]


def test_the_scale_of_a_logit_does_not_matter():
    second = gram(40, 90)
    factors = 10.0 ** np.random.default_rng(0).integers(-3, 4, 40)
    path, other = covlasso_path(second), covlasso_path(second * factors[:, None] * factors)
    for weights, rescaled in zip(path.weights, other.weights, strict=True):
        assert np.array_equal(weights.toarray() != 0, rescaled.toarray() != 0)
        back = rescaled.toarray() / factors[:, None] * factors
        assert np.allclose(back, weights.toarray(), atol=1e-9)


def test_dead_and_constant_logits_are_never_selected():
    """§2.2: an all-zero column, and a constant one in the covariance."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((5000, 20)).astype(np.float32) + 3
    logits[:, 4] = logits[:, 5] * 0.9 + 0.1 * logits[:, 4]
    logits[:, 7], logits[:, 9] = 0, -7.3
    metric = SecondMoments(20)
    metric.update(torch.from_numpy(logits))
    for center in (True, False):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            second = metric.compute().covariance(center)
            path = covlasso_path(second, DEEP)
            found = refit(second, path.weights[-1], path.targets)
        dense = path.weights[-1].toarray()
        assert np.isfinite(dense).all()
        assert np.isfinite(found.data).all()
        assert not dense[:, 7].any()
        assert not dense[7].any()
        if center:
            assert not dense[:, 9].any()
        assert path.lam_max[7] == 0
        assert dense[4, 5] > 0.5


def test_planted_dependency_of_three_terms():
    """The Lasso shrinks, its refit does not (§2.4)."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((20_000, 30))
    truth = {3: 0.8, 11: -0.6, 20: 0.5}
    logits[:, 0] = sum(value * logits[:, j] for j, value in truth.items()) + 0.05 * rng.standard_normal(20_000)
    second = logits.T @ logits / len(logits)
    path = covlasso_path(second, [0.1], targets=[0])
    fitted = refit(second, path.weights[0], path.targets)
    assert path.weights[0].indices.tolist() == fitted.indices.tolist() == sorted(truth)
    assert np.allclose(fitted.data, list(truth.values()), atol=0.01)
    assert (np.abs(path.weights[0].data) < np.abs(fitted.data)).all()
    small = fvu(fitted, [0], Moments(20_000, logits.mean(0), second))
    assert small < fvu(path.weights[0], [0], Moments(20_000, logits.mean(0), second)) < 0.05
    assert relative_l1(torch.from_numpy(logits), fitted, [0]) < 0.06


def test_refit_on_an_exact_dependency_is_finite():
    second = gram(40, 12)
    path = covlasso_path(second, [1e-3])
    fitted = refit(second, path.weights[0], path.targets)
    assert np.isfinite(fitted.data).all()
    errors = squared_error(fitted, path.targets, moments(second))
    assert (errors <= squared_error(path.weights[0], path.targets, moments(second)) + 1e-9).all()


def test_between_networks():
    """§2.5 in small: a network predicts itself exactly with its own category and less well without."""
    second = gram(30, 80)
    joint = np.block([[second, second], [second, second]])
    first, other = np.arange(30), np.arange(30, 60)
    same = covlasso_path(joint, [1e-3], targets=first, sources=other)
    assert np.array_equal(same.weights[0].toarray() != 0, np.eye(30, 60, 30) != 0)
    assert (squared_error(same.weights[0], first, moments(joint)) < 1e-5 * second.diagonal()).all()
    strict = covlasso_path(joint, [0.1], targets=first, sources=other, exclude=other)
    alone = covlasso_path(second, [0.1])
    assert np.allclose(strict.weights[0].toarray()[:, 30:], alone.weights[0].toarray(), atol=1e-6)
    assert not strict.weights[0].toarray()[:, :30].any()
    few = covlasso_path(second, [0.1], targets=[4, 2])
    assert np.array_equal(few.weights[0].toarray(), alone.weights[0].toarray()[[4, 2]])


def test_a_single_small_alpha_on_a_singular_gram():
    """More of a support than the rank, from a cold start: no NaN, and what the path would give."""
    for categories, features, mean in ((100, 3, 5), (100, 12, 0), (150, 40, 5)):
        second = gram(categories, features, mean=mean)
        path = covlasso_path(second, [1e-3])
        assert path.converged.all()
        assert kkt(second, path).max() < 1e-3


def test_giving_up_is_said():
    with pytest.warns(UserWarning, match="did not converge"):
        path = covlasso_path(gram(40, 90), [0.05], rounds=1)
    assert not path.converged.all()


@pytest.mark.parametrize(
    ("second", "options", "said"),
    [
        (np.zeros((2, 3)), {}, "square"),
        (np.array([[1, np.nan], [np.nan, 1]]), {}, "NaN"),
        (np.array([[1, 0.5], [0.2, 1]]), {}, "symmetric"),
        (np.diag([1.0, -1.0]), {}, "negative"),
        (np.eye(2), {"alphas": [0.0]}, "positive"),
        (np.eye(2), {"targets": [2]}, "not among"),
        (np.eye(2), {"exclude": [1]}, "exclude"),
    ],
)
def test_bad_input_is_refused(second, options, said):
    with pytest.raises(ValueError, match=said):
        covlasso_path(second, **options)


def test_float32_moments_agree_where_float64_is_needed():
    """§2.1: the error at alpha .001 from float32 logits is within 1 % of that from float64 ones."""
    rows = np.random.default_rng(1).standard_normal((4000, 60)) @ factor(40, 60, mean=3)
    metric = SecondMoments(40)
    for part in np.split(rows, 8):
        metric.update(torch.from_numpy(part.astype(np.float32)))
    exact, mine = rows.T @ rows / len(rows), metric.compute()
    errors = []
    for second in (exact, mine.second):
        path = covlasso_path(second, [1e-3])
        errors.append(squared_error(path.weights[0], path.targets, moments(second)))
    assert np.allclose(errors[0], errors[1], rtol=0.01)


def test_a_thousand_categories_need_little_memory():
    """§2.9: 8 alphas, all targets, less than 1 GB beside the Gram; a Python loop with copies takes minutes."""
    second = gram(1000, 600)
    covlasso_path(second[:20, :20])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    path = covlasso_path(second)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 10**9
    assert path.converged.all()
    assert len(path.weights) == 8


def test_numba_waits_until_it_is_needed():
    code = "import sys, lightning_modules.neural_dependency.solvers.covlasso; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_scikit_learns_path_on_the_gram_is_not_zero():
    """§2.9: with a y of zeros it would return zeros; the benchmark's y has y^T y = C_ii."""
    second = hierarchical(40)
    path, target = covlasso_path(second, [0.3, 0.1], tol=1e-7), 3
    others = np.delete(np.arange(40), target)
    theirs = by_sklearn(second[np.ix_(others, others)], second[others, target], path.alphas * path.lam_max[target] / 2)
    assert np.count_nonzero(theirs[1]) > 2
    for ours, coefficients in zip(path.weights, theirs, strict=True):
        assert np.allclose(ours.toarray()[target, others], coefficients, atol=1e-3)
