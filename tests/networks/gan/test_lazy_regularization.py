"""Losses of every k-th step, and Adam's correction."""

import pytest
import torch

from networks.gan.lazy_regularization import build_adam, is_due, lazy_weight


def test_adam_is_corrected_for_lazy_steps_and_takes_whole_numbers():
    # Torch refuses a beta of 0 that is no float.
    options = {"lr": 2e-3, "beta1": 0, "beta2": 0.99, "weight_decay": 0.0}
    parameters = [torch.nn.Parameter(torch.zeros(2))]
    ordinary, lazy = (build_adam(parameters, options, name="x", lazy_interval=interval) for interval in (None, 4))
    assert ordinary.defaults["betas"] == (0.0, 0.99)
    assert isinstance(ordinary.defaults["betas"][0], float)
    assert lazy.defaults["lr"] == pytest.approx(2e-3 * 0.8)
    assert lazy.defaults["betas"] == pytest.approx((0.0, 0.99**0.8))


@pytest.mark.parametrize(("interval", "steps"), [(8, 33), (4, 8), (1, 5)])
def test_a_lazy_loss_is_in_every_kth_step_from_the_first_on(interval, steps):
    due = [step for step in range(steps) if is_due(step, interval)]
    assert due == list(range(0, steps, interval))
    # Over its interval it weighs as much as if it were in every step.
    assert lazy_weight(2.0, interval) * len(due) == pytest.approx(2.0 * steps, abs=2.0 * interval)
    assert lazy_weight(2.0, interval) == 2.0 * interval
