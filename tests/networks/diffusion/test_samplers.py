"""Samplers by name, and any scheduler of diffusers."""

import diffusers
import pytest
import torch

from common.errors import UserError
from networks.diffusion.samplers import SchedulerSampler, build_sampler
from networks.diffusion.unet import UNet
from tests.networks.diffusion.build import OPTIONS, Gaussian, awake, randn, schedule_of

NAMES = ("ddim", "ddpm", "dpm_solver", "pndm")


@pytest.mark.parametrize(
    ("name", "steps", "error"), [("ddim", 200, 0.03), ("dpm_solver", 50, 0.01), ("pndm", 50, 0.01)]
)
@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
@pytest.mark.parametrize("beta_schedule", ["linear", "cosine"])
def test_deterministic_samplers_end_at_the_exact_image(name, steps, error, prediction, beta_schedule):
    # With 50 steps the error of DDIM is 0.09 and 0.05.
    schedule = schedule_of(beta_schedule)
    denoiser, noise = Gaussian(schedule, prediction), randn(2, 1, 8, 8)
    found = build_sampler(name, schedule, prediction, steps)(denoiser, noise)
    assert (found - denoiser.image(noise)).abs().max() < error


def test_ancestral_images_have_the_moments_of_the_data():
    schedule = schedule_of()
    found = build_sampler("ddpm", schedule, "v", 100)(Gaussian(schedule, "v"), randn(4, 1, 32, 32))
    assert found.mean().item() == pytest.approx(0.3, abs=0.03)
    assert found.std().item() == pytest.approx(0.5, abs=0.03)


def test_a_scheduler_that_scales_its_inputs_and_its_noise():
    # Euler's states have the clean image's scale.
    schedule = schedule_of("linear")
    denoiser, noise = Gaussian(schedule, "eps"), randn(2, 1, 8, 8)
    scheduler = diffusers.EulerDiscreteScheduler(**schedule.library_options, timestep_spacing="trailing")
    found = SchedulerSampler(scheduler, 200)(denoiser, noise)
    assert (found - denoiser.image(noise)).abs().max() < 0.05


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_images_are_those_of_diffusers_pipeline_bit_for_bit(eta):
    network = awake(UNet(1, [8], OPTIONS))
    network.unet.register_to_config(sample_size=8)
    scheduler = diffusers.DDIMScheduler(timestep_spacing="trailing", clip_sample=False)
    if eta:
        scheduler = diffusers.DDPMScheduler(timestep_spacing="trailing", clip_sample=False)
    pipeline = (diffusers.DDPMPipeline if eta else diffusers.DDIMPipeline)(network.unet, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    expected = pipeline(2, generator=generators, num_inference_steps=5, output_type="np")[0]
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    noise = torch.cat([torch.randn(1, 1, 8, 8, generator=generator) for generator in generators])
    found = SchedulerSampler(scheduler, 5)(network, noise, generators=generators)
    # The pipeline's result is clamped and of 0..1.
    assert torch.equal(((found / 2 + 0.5).clamp(0, 1)).permute(0, 2, 3, 1), torch.from_numpy(expected))


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_dpm_solver_is_that_of_diffusers(prediction):
    schedule, noise = schedule_of(), randn(2, 1, 4, 4)

    def network(x, timesteps):
        return torch.sin(3 * x)

    scheduler = diffusers.DPMSolverMultistepScheduler(
        **schedule.library_options,
        prediction_type={"eps": "epsilon", "v": "v_prediction"}[prediction],
        timestep_spacing="trailing",
        thresholding=True,
        sample_max_value=1e9,
    )
    scheduler.set_timesteps(7)
    expected = noise
    for timestep in scheduler.timesteps:
        expected = scheduler.step(network(expected, timestep), timestep, expected).prev_sample
    assert torch.equal(build_sampler("dpm_solver", schedule, prediction, 7, threshold=0.995)(network, noise), expected)


@pytest.mark.parametrize("name", NAMES)
def test_calls_are_reported_and_a_sampler_begins_anew(name):
    schedule, reported = schedule_of(), []
    sampler, denoiser = build_sampler(name, schedule, "v", 6), Gaussian(schedule, "v")
    results = []
    for _ in range(2):
        reported.clear()
        generators = [torch.Generator().manual_seed(0)]
        results.append(sampler(denoiser, randn(1, 1, 4, 4), generators=generators, on_step=lambda: reported.append(1)))
        assert len(reported) == sampler.calls
    assert torch.equal(*results)
    assert sampler.calls == (7 if name == "pndm" else 6)


@pytest.mark.parametrize("name", ["ddim", "ddpm", "dpm_solver"])
def test_thresholded_images_lie_within_their_range(name):
    schedule, noise = schedule_of(), randn(2, 1, 8, 8)
    wild = Gaussian(schedule, "v", mean=0.5, deviation=3.0)
    plain, bounded = (build_sampler(name, schedule, "v", 10, threshold)(wild, noise) for threshold in (None, 0.9))
    assert plain.abs().max() > 1.5
    # The last step adds no noise.
    assert bounded.abs().max() <= 1 + 1e-5


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"name": "sudden"}, "ddim, ddpm, dpm_solver, pndm"),
        ({"name": "dpm_solver", "steps": 0}, "1 to 1000"),
        ({"name": "ddpm", "threshold": 0.0}, "a quantile"),
        ({"name": "pndm", "threshold": 0.9}, "no dynamic thresholding"),
    ],
)
def test_what_makes_no_sampler_is_refused_in_one_line(changes, word):
    options = {"schedule": schedule_of(), "prediction": "eps", "steps": 10} | changes
    with pytest.raises(UserError, match=word) as error:
        build_sampler(**options)
    assert "\n" not in str(error.value)
