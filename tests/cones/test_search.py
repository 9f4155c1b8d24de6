"""The search: which weights it ranks first, on a loss whose best shrinking is known, and its step size."""

import math

import pytest
import torch
from torch import nn

from common.errors import UserError
from lightning_modules.cones.concept_masks import MaskUpdate, build_masks, masked_weights
from lightning_modules.cones.selection import check_selection, select

OPTIONS = {"criterion": "neurons", "by": "quantile", "fraction": None, "fractions": [0.5], "threshold": None}


def quadratic():
    """Weights of which some are too large, some too small and some right; the loss is their squared distance."""
    layer = nn.Linear(6, 2, bias=False).requires_grad_(False)
    layer.weight.data = torch.tensor([[2.0, -2.0, 1.0, -1.0, 0.5, 3.0], [1.0, 2.0, -3.0, 0.2, -0.4, 1.0]])
    goal = layer.weight.clone()
    shrinks = torch.zeros_like(goal, dtype=torch.bool)
    for row, column in ((0, 0), (0, 1), (1, 2)):
        goal[row, column] = 0
        shrinks[row, column] = True
    goal[0, 2], goal[1, 3] = 2.0, 1.0
    return {"a.weight": layer}, goal, shrinks


def searched(update, steps=5, rho=0.02, hard=False):
    layers, goal, shrinks = quadratic()
    masks = build_masks(layers, hard=hard)
    optimizer = MaskUpdate(masks, update, rho, 0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        ((masked_weights(layers, masks)["a.weight"] - goal) ** 2).sum().backward()
        optimizer.step()
    return layers, dict(zip(layers, masks, strict=True)), shrinks, optimizer


def chosen(masks, layers, update, fraction=0.25, **options):
    weights = {name: layer.weight for name, layer in layers.items()}
    return select(masks, weights, update, OPTIONS | options, fraction=fraction)["a.weight"]


@pytest.mark.parametrize("update", ["mask_sgd", "multiplicative", "static", "ste"])
def test_weights_whose_shrinking_lowers_the_loss_are_found_and_no_others(update):
    layers, masks, shrinks, _ = searched(update, hard=update == "ste")
    assert torch.equal(chosen(masks, layers, update), shrinks)


def test_the_base_is_never_moved_and_a_mask_stays_in_bounds():
    layers, masks, _, _ = searched("mask_sgd", steps=50, rho=1.0)
    assert torch.equal(layers["a.weight"].weight, quadratic()[0]["a.weight"].weight)
    mask = masks["a.weight"].mask
    assert float(mask.min()) >= 0
    assert float(mask.max()) <= 1
    multiplied = searched("multiplicative", rho=0.02)[1]["a.weight"].mask
    # Weights that are too small grow.
    assert float(multiplied[0, 2]) > 1
    assert torch.equal(searched("static")[1]["a.weight"].mask, torch.ones(2, 6))


def test_one_step_is_the_formula():
    layers, masks, _, _ = searched("multiplicative", steps=1, rho=0.01)
    _, goal, _ = quadratic()
    weight = layers["a.weight"].weight
    product = weight * 2 * (weight - goal)
    torch.testing.assert_close(masks["a.weight"].statistic, product)
    torch.testing.assert_close(weight * masks["a.weight"].mask, weight - 0.01 * weight * product)


def test_the_step_size_follows_the_first_batch():
    layers, _, _, optimizer = searched("mask_sgd", steps=1, rho=None)
    _, goal, _ = quadratic()
    weight = layers["a.weight"].weight
    products = (weight * 2 * (weight - goal)).abs().flatten()
    expected = 0.01 / products.kthvalue(max(1, int(0.99 * 12))).values
    assert optimizer.param_groups[0]["lr"] == pytest.approx(float(expected))
    assert math.isclose(optimizer.state_dict()["param_groups"][0]["lr"], float(expected), rel_tol=1e-6)


def test_controls_choose_by_something_else():
    layers, masks, _, _ = searched("mask_sgd")
    own = chosen(masks, layers, "mask_sgd")
    wrong = chosen(masks, layers, "mask_sgd", fraction=1 / 6, criterion="wrong_sign")
    # Shrinking these raised the loss.
    assert {tuple(place) for place in wrong.nonzero().tolist()} == {(0, 2), (1, 3)}
    large = chosen(masks, layers, "mask_sgd", fraction=1 / 6, criterion="magnitude")
    assert {tuple(place) for place in large.nonzero().tolist()} == {(0, 5), (1, 2)}
    unsigned = chosen(masks, layers, "mask_sgd", fraction=0.25, criterion="unsigned")
    assert int(unsigned.sum()) == int(own.sum())


def test_the_random_control_has_the_same_count_in_every_matrix():
    layers = {f"{k}.weight": nn.Linear(8, 4, bias=False).requires_grad_(False) for k in range(3)}
    masks = dict(zip(layers, build_masks(layers, hard=False), strict=True))
    for place, mask in enumerate(masks.values()):
        mask.statistic.normal_(mean=place, generator=torch.Generator().manual_seed(place))
    weights = {name: layer.weight for name, layer in layers.items()}
    own = select(masks, weights, "static", OPTIONS, fraction=0.3)
    drawn = select(masks, weights, "static", OPTIONS | {"criterion": "random"}, fraction=0.3, seed=3)
    assert [int(each.sum()) for each in own.values()] == [int(each.sum()) for each in drawn.values()]
    assert any(not torch.equal(own[name], drawn[name]) for name in own)


def test_a_threshold_that_shuts_nothing_or_everything_is_refused():
    layers, masks, _, _ = searched("static")
    with pytest.raises(UserError, match="shuts nothing"):
        chosen(masks, layers, "static", by="threshold", threshold=1e9)
    with pytest.raises(UserError, match="shuts everything"):
        chosen(masks, layers, "static", by="threshold", threshold=-1e9)
    assert 0 < int(chosen(masks, layers, "static", by="threshold", threshold=1e-3).sum()) < 12


def test_options_that_select_nothing_are_refused():
    with pytest.raises(UserError, match="nothing would be shut"):
        check_selection(OPTIONS | {"fractions": []})
    with pytest.raises(UserError, match="no published value"):
        check_selection(OPTIONS | {"by": "threshold"})
    with pytest.raises(UserError, match="both should be above 0"):
        MaskUpdate(build_masks(quadratic()[0], hard=False), "mask_sgd", -1.0, 0.01)


def test_a_loss_without_the_weights_is_refused():
    layers, _, _ = quadratic()
    masks = build_masks(layers, hard=False)
    optimizer = MaskUpdate(masks, "mask_sgd", None, 0.01)
    (0 * masked_weights(layers, masks)["a.weight"]).sum().backward()
    with pytest.raises(UserError, match="no gradient reaches"):
        optimizer.step()
