import numpy as np
import torch

from lightning_modules.neural_dependency.structure.controls import probabilities, random_rotation, rotated, shuffled
from tests.neural_dependency.synthetic import least_squares, logits


def unexplained(fit, test, center=True):
    """Median over the logits of the share of variance (or of the second moment) that the others do not explain."""
    fit, test = np.asarray(fit, np.float64), np.asarray(test, np.float64)
    if center:
        weights, intercept = least_squares(fit)
    else:
        precision = np.linalg.inv(fit.T @ fit / len(fit))
        weights, intercept = -precision / np.diag(precision)[:, None], 0.0
        np.fill_diagonal(weights, 0)
    error = ((test - test @ weights.T - intercept) ** 2).mean(axis=0)
    return np.median(error / (test.var(axis=0) if center else (test**2).mean(axis=0)))


def test_shuffled_columns_hold_the_same_numbers_and_explain_nothing():
    # §2.1: a large common mean makes the uncentred error small for free, so the centred one is the evidence.
    (fit, _, _), (test, _, _) = logits(8000, seed=0), logits(4000, seed=1)
    mixed_fit, mixed_test = shuffled(fit, 2), shuffled(test, 3)
    assert torch.equal(mixed_fit.sort(0).values, fit.sort(0).values)
    assert not torch.equal(mixed_fit, fit)
    assert torch.equal(mixed_fit, shuffled(fit, 2))
    correlation = np.corrcoef(mixed_fit.numpy().T) - np.eye(24)
    assert np.abs(correlation).max() < 0.06
    assert unexplained(fit, test) < 0.2
    assert 0.97 < unexplained(mixed_fit, mixed_test) < 1.05
    assert unexplained(mixed_fit, mixed_test, center=False) < 0.7


def test_few_samples_never_pass_for_a_finding_out_of_sample():
    # §2.1: random Gaussian logits with n = 2 K.
    generator = torch.Generator().manual_seed(0)
    fit, test = torch.randn(128, 64, generator=generator), torch.randn(2000, 64, generator=generator)
    assert unexplained(fit, fit) < 0.6
    assert unexplained(fit, test) > 0.9


def test_a_rotation_keeps_the_spectrum_and_is_shared_by_the_splits():
    (fit, _, _), (test, _, _) = logits(3000, seed=0), logits(2000, seed=1)
    mean = fit.double().mean(0)
    turned_fit, turned_test = rotated(fit, mean, 5), rotated(test, mean, 5)
    assert turned_fit.dtype == torch.float64
    assert turned_fit.mean(0).abs().max() < 1e-9
    for plain, turned in ((fit, turned_fit), (test, turned_test)):
        before, after = torch.linalg.eigvalsh(plain.double().T.cov()), torch.linalg.eigvalsh(turned.T.cov())
        assert torch.allclose(before, after, rtol=1e-8)
    assert unexplained(turned_fit, turned_test) < 1
    apart = rotated(test, mean, 6)
    assert not torch.allclose(apart, turned_test)


def test_rotations_are_orthogonal_and_even():
    axes = random_rotation(40, 0)
    assert torch.allclose(axes @ axes.T, torch.eye(40, dtype=torch.float64), atol=1e-12)
    signs = torch.stack([random_rotation(3, seed).diagonal().sign() for seed in range(300)])
    assert signs.mean(0).abs().max() < 0.2


def test_probabilities_sum_to_one():
    found, _, _ = logits(50)
    p = probabilities(found)
    assert p.dtype == torch.float64
    assert torch.allclose(p.sum(1), torch.ones(50, dtype=torch.float64))
    assert torch.equal(p.argmax(1), found.argmax(1))
