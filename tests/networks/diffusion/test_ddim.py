"""Deterministic DDIM, its inversion and dynamic thresholding, next to diffusers' schedulers."""

import diffusers
import pytest
import torch

from common.errors import UserError
from networks.diffusion.ddim import DDIM, dynamic_threshold
from tests.networks.diffusion.build import Gaussian, randn, schedule_of

LIBRARY = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}


def network(x, timesteps):
    return torch.sin(3 * x) + 0.1 * torch.cos(timesteps[:, None, None, None] / 300)


def scheduler_of(kind, schedule, prediction, **options):
    options = {"clip_sample": False, "timestep_spacing": "trailing"} | options
    return kind(**schedule.library_options, prediction_type=LIBRARY[prediction], **options)


def by_diffusers(scheduler, steps, x, **options):
    scheduler.set_timesteps(steps)
    for timestep in scheduler.timesteps:
        x = scheduler.step(network(x, timestep.expand(len(x))), timestep, x, **options).prev_sample
    return x


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_sampling_is_that_of_diffusers(prediction, name):
    schedule, x = schedule_of(name), randn(2, 1, 4, 4, dtype=torch.float64)
    expected = by_diffusers(scheduler_of(diffusers.DDIMScheduler, schedule, prediction), 10, x)
    found = DDIM(schedule, prediction, 10)(network, x)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_thresholding_is_that_of_diffusers(prediction):
    # diffusers computes eps again from the thresholded x_0 only if told to.
    schedule, x = schedule_of(), randn(2, 1, 4, 4, dtype=torch.float64)
    scheduler = scheduler_of(
        diffusers.DDIMScheduler,
        schedule,
        prediction,
        thresholding=True,
        dynamic_thresholding_ratio=0.9,
        sample_max_value=1e9,
    )
    expected = by_diffusers(scheduler, 10, x, use_clipped_model_output=True)
    found = DDIM(schedule, prediction, 10, threshold=0.9)(network, x)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert found.abs().max() <= 1
    assert not torch.allclose(found, DDIM(schedule, prediction, 10)(network, x), atol=1e-2)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_inversion_is_that_of_diffusers(name):
    # For eps alone: of v, diffusers' inverse step is not the inverse of its sampling step.
    schedule, x = schedule_of(name), randn(2, 1, 4, 4, dtype=torch.float64)
    expected = by_diffusers(scheduler_of(diffusers.DDIMInverseScheduler, schedule, "eps"), 10, x)
    found = DDIM(schedule, "eps", 10).invert(network, x)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction", ["eps", "v"])
@pytest.mark.parametrize("steps", [7, 10, 1000])
def test_the_round_trip_of_a_zero_network_is_exact(prediction, steps):
    # Far outside -1..1, so that a clamp would show; 7 does not divide the timesteps.
    ddim = DDIM(schedule_of("linear"), prediction, steps)
    x = 10 * randn(2, 1, 4, 4, dtype=torch.float64)

    def zero(x, timesteps):
        return torch.zeros_like(x)

    assert torch.allclose(ddim(zero, ddim.invert(zero, x)), x, rtol=1e-9)
    assert torch.allclose(ddim.invert(zero, ddim(zero, x)), x, rtol=1e-9)


@pytest.mark.parametrize("prediction", ["eps", "v"])
@pytest.mark.parametrize("threshold", [None, 0.995])
def test_the_round_trip_error_falls_with_more_steps(prediction, threshold):
    schedule, images = schedule_of(), (0.3 + 0.5 * randn(4, 1, 8, 8, dtype=torch.float64)).clamp(-0.95, 0.95)
    errors = []
    for steps in (10, 25, 100):
        denoiser = Gaussian(schedule, prediction)
        ddim = DDIM(schedule, prediction, steps, threshold)
        found = ddim(denoiser, ddim.invert(denoiser, images))
        # One list of timesteps, reversed.
        assert denoiser.timesteps == [*reversed(ddim.timesteps), *ddim.timesteps]
        errors.append((found - images).square().mean().item())
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 2e-3


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_sampling_ends_at_the_exact_image_and_inversion_at_its_latent(prediction):
    schedule = schedule_of()
    denoiser, noise = Gaussian(schedule, prediction), randn(2, 1, 8, 8, dtype=torch.float64)
    ddim, image = DDIM(schedule, prediction, 500), denoiser.image(noise)
    assert torch.allclose(ddim(denoiser, noise), image, atol=0.02)
    if prediction != "x0":
        assert torch.allclose(ddim.invert(denoiser, image), noise, atol=0.05)


@pytest.mark.parametrize("steps", [1, 3, 7, 12, 999, 1000])
def test_timesteps_begin_with_pure_noise_and_none_comes_twice(steps):
    found = DDIM(schedule_of(), "eps", steps).timesteps
    assert found[0] == 999
    assert len(found) == len(set(found)) == steps
    assert found == sorted(found, reverse=True)
    assert found[-1] == round(1000 / steps) - 1


def test_the_threshold_is_of_each_image_and_leaves_what_lies_within():
    images = torch.stack([torch.linspace(-0.9, 0.9, 16), torch.linspace(-8, 8, 16)]).reshape(2, 1, 4, 4)
    found = dynamic_threshold(images, 0.8)
    assert torch.equal(found[0], images[0])
    bound = torch.quantile(images[1].abs(), 0.8)
    assert torch.allclose(found[1], (images[1] / bound).clamp(-1, 1))


def test_every_step_is_reported_and_no_gradient_is_kept():
    ddim, reported = DDIM(schedule_of(), "eps", 9), []
    weight = torch.ones(1, requires_grad=True)
    for run in (ddim, ddim.invert):
        reported.clear()
        found = run(lambda x, timesteps: 0.1 * weight * x, randn(1, 1, 4, 4), on_step=lambda: reported.append(1))
        assert len(reported) == ddim.calls == 9
        assert not found.requires_grad


@pytest.mark.parametrize(
    ("options", "word"),
    [({"steps": 0}, "1 to 1000"), ({"steps": 1001}, "1 to 1000"), ({"threshold": 1.5}, "a quantile")],
)
def test_what_makes_no_sampler_is_refused(options, word):
    with pytest.raises(UserError, match=word):
        DDIM(schedule_of(), "eps", **({"steps": 10} | options))


def test_the_inversion_of_x0_is_refused():
    with pytest.raises(UserError, match="eps or v"):
        DDIM(schedule_of(), "x0", 10).invert(network, randn(1, 1, 4, 4))
