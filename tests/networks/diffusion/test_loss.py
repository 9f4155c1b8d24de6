"""The weighted denoising loss."""

import pytest
import torch

from networks.diffusion.loss import denoising_loss, timestep_weights
from networks.diffusion.parameterization import Levels
from tests.networks.diffusion.build import randn, schedule_of


def test_min_snr_by_hand():
    snr = torch.tensor([0.5, 5.0, 20.0])
    assert timestep_weights("min_snr", "x0", snr).tolist() == pytest.approx([0.5, 5, 5])
    assert timestep_weights("min_snr", "eps", snr).tolist() == pytest.approx([1, 1, 0.25])
    assert timestep_weights("min_snr", "v", snr).tolist() == pytest.approx([1 / 3, 5 / 6, 5 / 21])
    assert timestep_weights("min_snr", "x0", snr, max_snr=1).tolist() == pytest.approx([0.5, 1, 1])
    assert timestep_weights("uniform", "v", snr).tolist() == [1, 1, 1]


def test_a_loss_for_every_sample_by_hand():
    schedule, timesteps = schedule_of(), torch.tensor([100, 800])
    clean, noise = randn(2, 1, 4, 4), randn(2, 1, 4, 4, seed=1)
    calls = []

    def predict(x, timesteps):
        calls.append((x, timesteps))
        return torch.zeros_like(x)

    loss = denoising_loss(predict, schedule, "eps", clean, timesteps, noise)
    assert torch.allclose(loss, noise.square().mean((1, 2, 3)))
    assert torch.equal(calls[0][0], schedule.levels(timesteps).diffuse(clean, noise))
    assert torch.equal(calls[0][1], timesteps)


def test_min_snr_weights_the_same_error_alike_whatever_is_predicted():
    schedule, timesteps = schedule_of(), torch.tensor([100, 500, 800])
    clean, noise, error = (randn(3, 1, 4, 4, seed=seed) for seed in range(3))
    levels: Levels = schedule.levels(timesteps)
    found = []
    for kind in ("eps", "v", "x0"):

        def predict(x, timesteps, kind=kind):
            # x_0 is wrong by `error`, and eps by what follows from it.
            wrong = clean + 0.1 * error
            return levels.target(kind, wrong, (x - levels.signal * wrong) / levels.noise)

        found.append(denoising_loss(predict, schedule, kind, clean, timesteps, noise, "min_snr"))
    assert torch.allclose(found[0], found[2], rtol=1e-3)
    assert torch.allclose(found[1], found[2], rtol=1e-3)


def test_the_loss_runs_where_costs_are_counted():
    with torch.device("meta"):
        schedule = schedule_of()
        images = torch.zeros(2, 1, 4, 4)
        loss = denoising_loss(
            lambda x, timesteps: x, schedule, "v", images, schedule.draw_timesteps(2), images, "min_snr"
        )
    assert loss.shape == (2,)
    assert 0 < float(schedule.at(500).signal) < 1
