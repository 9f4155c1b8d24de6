"""The solver without a Gram finds what the solver on the Gram finds."""

import numpy as np
import pytest
import torch

from lightning_modules.neural_dependency.solvers.block_solver import factor_path, head_factor
from lightning_modules.neural_dependency.solvers.covlasso import covlasso_path
from tests.neural_dependency.grams import factor, kkt


def test_factor_of_a_head_is_the_second_moment_of_its_logits():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(500, 6, generator=generator).double()
    weight, bias = torch.randn(9, 6, generator=generator).double(), torch.randn(9, generator=generator).double()
    wide = torch.cat([features, torch.ones(500, 1)], 1)
    found = head_factor(weight, bias, wide.T @ wide / 500)
    logits = features @ weight.T + bias
    assert found.shape == (7, 9)
    assert torch.allclose(found.T @ found, logits.T @ logits / 500, atol=1e-10)
    plain = head_factor(weight, None, features.T @ features / 500)
    assert torch.allclose(plain.T @ plain, weight @ (features.T @ features / 500) @ weight.T, atol=1e-10)


@pytest.mark.parametrize("features", [25, 60])
def test_agrees_with_the_solver_on_the_gram(features):
    rows = factor(40, features)
    alphas = [0.3, 0.6]
    mine = factor_path(torch.from_numpy(rows), alphas, tol=3e-5, block=25)
    second = rows.T @ rows
    other = covlasso_path(second, alphas, tol=1e-7)
    assert mine.converged.all()
    assert np.allclose(mine.lam_max, other.lam_max)
    assert kkt(second, mine).max() < 6e-5
    for one, two in zip(mine.weights, other.weights, strict=True):
        scale = np.sqrt(second.diagonal())
        assert np.abs((one - two).toarray() * scale / scale[:, None]).max() < 2e-3
        assert not one.toarray().diagonal().any()


def test_between_networks_and_dead_categories():
    rows = factor(30, 50)
    rows[:, 3] = 0
    options = {"targets": np.arange(10), "sources": np.arange(10, 30), "exclude": np.arange(20, 30)}
    mine = factor_path(torch.from_numpy(rows), [0.1], tol=1e-5, **options)
    other = covlasso_path(rows.T @ rows, [0.1], **options)
    assert np.allclose(mine.weights[0].toarray(), other.weights[0].toarray(), atol=2e-3)
    assert not mine.weights[0].toarray()[3].any()


def test_giving_up_is_said():
    with pytest.warns(UserWarning, match="did not converge"):
        factor_path(torch.from_numpy(factor(60, 25)), [0.01], iterations=20)
