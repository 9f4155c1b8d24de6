"""Between networks, unseen categories, many categories of a linear head, and robustness, on logits of a known form."""

import numpy as np
import pytest
import torch
from torch import nn

from lightning_modules.neural_dependency.between import read_between
from lightning_modules.neural_dependency.large import logit_errors, solve_head, with_one
from lightning_modules.neural_dependency.reading import Logits, moments_of, solve
from lightning_modules.neural_dependency.robustness import ood_figures
from lightning_modules.neural_dependency.unseen.protocol import Split, from_network, read_unseen
from tests.neural_dependency.build import OPTIONS
from tests.neural_dependency.synthetic import logits

READING = OPTIONS["analysis"]


def split(count, seed, noise=0.5):
    values, labels, _ = logits(count, seed=seed, noise=noise)
    return Logits(values, labels, moments_of(values))


# Between networks.


def test_a_network_from_itself_is_exact_with_its_own_category_and_not_without():
    # §2.5: rows that do not belong together would show here.
    fit, test = split(2000, 0), split(1000, 1)
    found = read_between((fit, fit), (test, test), READING)
    assert found["own"]["fvu_refit"] == pytest.approx(0, abs=1e-9)
    assert found["included"]["fvu_refit"] < 1e-6
    assert found["excluded"]["fvu_refit"] > 0.01
    assert found["included"]["positive_after_refit"] == found["included"]["positive_before_refit"]


def test_rows_in_another_order_are_refused():
    fit, test = split(500, 0), split(300, 1)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    mixed = Logits(test.values[order], test.labels[order], test.moments)
    with pytest.raises(ValueError, match="do not go together"):
        read_between((fit, fit), (test, mixed), READING)


def test_another_networks_noise_hides_a_part():
    noisy = split(2000, 0, noise=2.0), split(1000, 1, noise=2.0)
    found = read_between((split(2000, 0), noisy[0]), (split(1000, 1), noisy[1]), READING)
    assert 0.01 < found["included"]["fvu_refit"] <= found["own"]["fvu_refit"]
    assert found["excluded"]["kkt"] < 0.01


# Unseen categories.


def halves(count, seed, base=18):
    values, labels, _ = logits(count, seed=seed)
    return Split(values[:, :base], values[:, :base], labels, values)


def test_new_categories_are_made_of_base_logits_and_not_of_shuffled_ones():
    found = read_unseen(halves(3000, 0), halves(1500, 1), 6, {"l1": [0.02], "shots": [5], "alpha": 0.01}, 0)
    assert set(found) == {"dense", "l1_0.02", "5shot", "probe", "permuted", "from_network"}
    assert found["dense"].new > 0.3
    assert found["permuted"].new < 0.5 * found["dense"].new
    assert found["l1_0.02"].nonzero < found["dense"].nonzero == 18
    assert found["5shot"].joint <= found["dense"].joint + 0.02
    # The features are the base logits here.
    assert found["probe"] == found["dense"]


def test_imitated_logits_differ_by_a_level_that_no_softmax_sees():
    split = halves(2000, 0)
    unseen = from_network(split.logits, split.source, 0.001)
    shifted = from_network(split.logits, split.source + torch.randn(2000, 1), 0.001)
    assert torch.allclose(unseen.weight, shifted.weight, atol=1e-3)
    assert (unseen.weight != 0).any()


# Many categories.


def test_a_head_is_solved_without_a_square_matrix_and_equals_the_gram():
    torch.manual_seed(0)
    head, features = nn.Linear(12, 30), torch.randn(4000, 12)
    with torch.no_grad():
        values = head(features)
        held_out = head(torch.randn(1000, 12))
    path = solve_head(head, moments_of(with_one(features)), [0.3, 0.1], 1e-4, "cpu")
    labels = torch.zeros(1000, dtype=torch.int64)
    same = solve(
        moments_of(values),
        Logits(held_out, labels, moments_of(held_out)),
        READING | {"alphas": [0.3, 0.1], "tolerance": 1e-4},
        center=False,
    )
    for ours, theirs, row in zip(path.weights, same.path.weights, same.rows, strict=True):
        assert np.allclose(ours.toarray(), theirs.toarray(), atol=1e-3)
        errors = logit_errors(ours, held_out)
        assert errors["rms"] == pytest.approx(row["rms_lasso"], rel=0.02)
        assert errors["l1"] == pytest.approx(row["l1_lasso"], rel=0.02)
        assert errors["fvu"] == pytest.approx(row["fvu_lasso"], rel=0.05)


# Robustness.


def test_unknown_samples_are_the_positive_class():
    torch.manual_seed(0)
    known = torch.eye(5).repeat(20, 1) * 9 + torch.randn(100, 5)
    unknown = torch.randn(50, 5)
    found = ood_figures(known, unknown)
    assert set(found) == {f"{score}/{figure}" for score in ("msp", "energy") for figure in ("auroc", "aupr")}
    assert all(value > 95 for value in found.values())
    assert ood_figures(unknown, known)["energy/auroc"] == pytest.approx(100 - found["energy/auroc"], abs=1e-3)


def test_large_energies_keep_their_order():
    known, unknown = torch.full((4, 2), 900.0) + torch.arange(4)[:, None], torch.full((3, 2), 800.0)
    assert ood_figures(known, unknown)["energy/auroc"] == 100
