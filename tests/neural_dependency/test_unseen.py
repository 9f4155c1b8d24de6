import pytest
import torch
from torch.nn import functional

from lightning_modules.neural_dependency.structure.controls import shuffled
from lightning_modules.neural_dependency.unseen.fitting import few_shot, fit_unseen, score_unseen
from tests.neural_dependency.synthetic import logits

BASE, NEW = 18, 6


@pytest.fixture(scope="module")
def splits():
    """Base logits and labels for the fit and for the test; the labels of the new categories come last."""
    parts = []
    for seed in (0, 1):
        found, labels, _ = logits(6000, BASE + NEW, noise=0.5, seed=seed)
        parts += [found[:, :BASE], labels]
    return parts


def objective(theta, design, base, labels, l1, ridge):
    """CE + (l1 / c) |theta| + ridge / 2 theta^2, as it is written down, every category weighing the same."""
    logits_all = torch.cat([base, design @ theta.T], dim=1)
    weights = 1 / labels.bincount().double()[labels]
    ce = (functional.cross_entropy(logits_all, labels, reduction="none") * weights).sum() / weights.sum()
    return ce + l1 / len(theta) * theta[:, :-1].abs().sum() + ridge / 2 * (theta[:, :-1] ** 2).sum()


@pytest.mark.parametrize("l1", [0.0, 0.05])
def test_the_fit_is_the_minimum_of_what_is_written_down(splits, l1):
    base, labels, *_ = splits
    base, labels = base[:1500].double(), labels[:1500]
    unseen = fit_unseen(base, base, labels, NEW, l1=l1, ridge=1e-3, tolerance=1e-8, steps=20000)
    assert unseen.violation < 1e-8
    mean, scale = base.mean(0), base.std(0, correction=0)
    design = torch.cat([(base - mean) / scale, torch.ones(len(base), 1)], dim=1)
    theta = torch.cat([unseen.weight * scale, (unseen.bias + unseen.weight @ mean)[:, None]], dim=1)
    least = objective(theta, design, base, labels, l1, 1e-3)
    generator = torch.Generator().manual_seed(0)
    for size in (1e-3, 1e-2, 1e-1):
        for _ in range(20):
            moved = theta + size * torch.randn(theta.shape, generator=generator, dtype=torch.float64)
            assert objective(moved, design, base, labels, l1, 1e-3) > least
    smooth = theta.clone().requires_grad_()
    objective(smooth, design, base, labels, 0.0, 1e-3).backward()
    # Optimality: the gradient balances the L1 term where a coefficient is used and is below it where not.
    coefficients, gradient = theta[:, :-1], smooth.grad[:, :-1]
    used = coefficients != 0
    assert (gradient[used] + l1 / NEW * coefficients[used].sign()).abs().max() < 1e-6
    assert gradient[~used].abs().max() <= l1 / NEW + 1e-9 if (~used).any() else True
    assert smooth.grad[:, -1].abs().max() < 1e-6


def test_new_categories_are_known_from_the_base_logits_and_the_control_is_not(splits):
    base, labels, test, test_labels = splits
    full = score_unseen(fit_unseen(base, base, labels, NEW), test, test, test_labels)
    assert full.new > 0.5
    assert full.base > 0.6
    assert full.joint == pytest.approx((BASE * full.base + NEW * full.new) / (BASE + NEW))
    assert full.nonzero == BASE
    mixed, mixed_test = shuffled(base, 1), shuffled(test, 2)
    control = score_unseen(fit_unseen(mixed, base, labels, NEW), mixed_test, test, test_labels)
    assert control.new < 0.15 < full.new


def test_a_stronger_penalty_uses_fewer_logits_and_costs_accuracy(splits):
    base, labels, test, test_labels = splits
    scores = [
        score_unseen(fit_unseen(base, base, labels, NEW, l1=l1), test, test, test_labels) for l1 in (0.0, 0.03, 10.0)
    ]
    assert BASE == scores[0].nonzero > scores[1].nonzero > scores[2].nonzero == 0
    assert scores[0].new > scores[2].new


def test_few_shots_are_drawn_by_seed_and_are_worse_than_all(splits):
    base, labels, test, test_labels = splits
    rows = few_shot(labels, 5, BASE, seed=0)
    assert labels[rows].bincount()[BASE:].tolist() == [5] * NEW
    assert (labels[rows] < BASE).sum() == (labels < BASE).sum()
    assert torch.equal(rows, few_shot(labels, 5, BASE, seed=0))
    assert not torch.equal(rows, few_shot(labels, 5, BASE, seed=1))
    assert torch.equal(few_shot(labels, None, BASE, seed=0), torch.arange(len(labels)))
    few = fit_unseen(base[rows], base[rows], labels[rows], NEW, ridge=1e-2)
    everything = fit_unseen(base, base, labels, NEW)
    few, everything = (score_unseen(fit, test, test, test_labels) for fit in (few, everything))
    assert 0.2 < few.new < everything.new + 0.05
    assert few.joint < everything.joint
    with pytest.raises(ValueError, match="shots were asked for"):
        few_shot(labels, 100000, BASE, seed=0)


def test_units_of_the_inputs_do_not_matter_and_dead_ones_are_not_used(splits):
    base, labels, *_ = splits
    base, labels = base[:1000], labels[:1000]
    dead = torch.cat([base, torch.full((1000, 1), 3.0)], dim=1)
    plain, other = fit_unseen(base, base, labels, NEW, l1=0.02), fit_unseen(10 * dead - 4, base, labels, NEW, l1=0.02)
    assert torch.allclose(10 * other.weight[:, :-1], plain.weight, atol=1e-4)
    assert (other.weight[:, -1] == 0).all()
    assert torch.isfinite(other.bias).all()


def test_what_cannot_be_fitted_is_refused(splits):
    base, labels, *_ = splits
    with pytest.raises(ValueError, match="needs a sample"):
        fit_unseen(base, base, labels, NEW + 1)
    with pytest.raises(ValueError, match="no label may be above"):
        fit_unseen(base, base, labels, NEW - 1)
    with pytest.raises(ValueError, match="do not fit"):
        fit_unseen(base[:10], base, labels, NEW)
    unseen = fit_unseen(base, base, labels, NEW, steps=3)
    with pytest.raises(ValueError, match="samples of base and of new"):
        score_unseen(unseen, base[labels < BASE], base[labels < BASE], labels[labels < BASE])
