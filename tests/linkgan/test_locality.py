"""What is measured of links: leaks by a full resampling, and the paper's two tables by names of their own."""

import pytest
import torch

from lightning_modules.linkgan.evaluation.link_evaluation import LinkEvaluation
from tests.linkgan.build import SIDE, Halves, module_of


def measured(generator=None, scaled=None, **changes):
    """Return the figures of a generator in place of StyleGAN2, or of StyleGAN2 with `scaled` applied to it."""
    halves = {"links": {"eyes": {"axes": [0.0, 0.25], "region": "left_half"}}, "stylegan2": {"w_dim": 8}}
    module = module_of(**(halves | changes if generator is not None else changes))
    if generator is not None:
        module.networks.average.module = generator
    if scaled is not None:
        scaled(module.networks.average.module)
    evaluation = LinkEvaluation(module.networks, module.options, rank=0, world_size=1, has_distances=False)
    real = torch.randn(8, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    evaluation.update({"image": real})
    return {name.removeprefix("val/"): value for name, value in evaluation.validation().metrics.items()}


def test_a_perfect_link_leaks_nothing_and_holds_all():
    found = measured(Halves())
    assert found["leak_in"] == 0
    assert found["leak_out"] == 0
    assert found["hold"] == pytest.approx(1)
    assert found["diversity"] > 0.1


def test_the_papers_two_tables_cannot_be_mixed_up():
    right, wrong = measured(Halves()), measured(Halves(), links={"eyes": {"axes": [0.0, 0.25], "region": "right_half"}})
    # Cross effects (table 3) are to be small, edits of the region (table 2) large.
    assert right["cross_mse_inside"] == right["cross_mse_outside"] == 0
    assert right["edit_mse_inside"] > 0.1
    assert right["edit_mse_outside"] == 0
    assert wrong["cross_mse_inside"] > 0.1
    assert wrong["cross_mse_outside"] > 0.1
    assert wrong["edit_mse_inside"] == 0
    assert wrong["edit_mse_outside"] > 0.1


def test_a_constant_generator_has_no_diversity_and_is_not_perfect():
    found = measured(Halves(swing=0.0))
    assert found["diversity"] == 0
    assert found["hold"] == 0
    assert found["leak_in"] == found["leak_out"] == 1
    # What the paper reports would be perfect.
    assert found["cross_mse_inside"] == found["cross_mse_outside"] == 0


def test_links_that_keep_a_shrunken_generator_leak_as_before():
    # Raw errors fall by the loss of diversity alone; leaks are relative to it.
    wrong = {"links": {"eyes": {"axes": [0.0, 0.5], "region": "left_half"}}}
    whole, shrunken = (measured(Halves(swing=swing), **wrong) for swing in (1.0, 0.1))
    assert shrunken["cross_mse_outside"] == pytest.approx(0.01 * whole["cross_mse_outside"])
    for name in ("leak_in", "leak_out", "hold"):
        assert shrunken[name] == pytest.approx(whole[name], rel=1e-4)
    assert shrunken["diversity"] == pytest.approx(0.01 * whole["diversity"], rel=1e-4)


def scale_w(generator):
    """Scale w by 10 and divide the affine layers by 10, which changes no image."""
    last = generator.mapping.fc1
    with torch.no_grad():
        # The last layer is followed by a leaky ReLU, which is linear in a positive factor.
        last.weight.mul_(10)
        last.bias.mul_(10)
        for name, parameter in generator.synthesis.named_parameters():
            if name.endswith("affine.weight"):
                parameter.div_(10)


def test_a_scale_of_w_moves_the_perturbed_figures_and_not_the_resampled_ones():
    before, after = measured(), measured(scaled=scale_w)
    for name in ("leak_in", "leak_out", "hold", "diversity", "edit_mse_inside", "edit_mse_outside"):
        assert after[name] == pytest.approx(before[name], rel=1e-3), name
    for name in ("cross_mse_inside", "cross_mse_outside"):
        assert before[name] > 1e-3
        assert 0 < after[name] < before[name] / 50, name


def test_other_axes_at_evaluation_are_a_control():
    own, other = measured(Halves()), measured(Halves(), evaluation={"shift_axes": 0.5})
    assert own["hold"] == pytest.approx(1)
    assert other["hold"] == 0
    assert other["leak_out"] > 0.1


def test_of_several_links_each_is_reported_and_their_mean():
    links = {
        "eyes": {"axes": [0.0, 0.25], "region": "left_half"},
        "rest": {"axes": [0.25, 0.5], "region": "right_half"},
    }
    found = measured(Halves(), links=links)
    assert found["hold_eyes"] == pytest.approx(1)
    assert 0.1 < found["hold_rest"] < 0.9
    assert found["hold"] == pytest.approx((found["hold_eyes"] + found["hold_rest"]) / 2)
    assert "hold_eyes" not in measured(Halves())
