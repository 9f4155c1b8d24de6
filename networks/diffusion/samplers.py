"""Sampling with any scheduler of diffusers, and the samplers by name."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from common.errors import UserError
from networks.diffusion.conditions import Predict
from networks.diffusion.ddim import DDIM, check_threshold
from networks.diffusion.parameterization import Prediction
from networks.diffusion.schedule import Schedule

SamplerName = Literal["ddim", "ddpm", "dpm_solver", "pndm"]

_LIBRARY_PREDICTIONS = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}


class ImageSampler(Protocol):
    """From noise to images."""

    @property
    def calls(self) -> int:
        """Number of network calls of a batch."""
        ...

    def __call__(
        self,
        predict: Predict,
        noise: Tensor,
        *,
        generators: Sequence[torch.Generator] = (),
        on_step: Callable[[], object] | None = None,
    ) -> Tensor:
        """Return images [b, c, h, w] of white noise [b, c, h, w]; see `SchedulerSampler`."""
        ...


@dataclass(frozen=True)
class SchedulerSampler:
    """The reverse process of a scheduler of diffusers.

    Attributes:
        scheduler: the scheduler, whose state is begun anew for every batch.
        steps: number of steps.
        convert: from timestep, noisy images and prediction to what the scheduler takes; None for the prediction itself.
    """

    scheduler: Any
    steps: int
    convert: Callable[[int, Tensor, Tensor], Tensor] | None = None

    @property
    def calls(self) -> int:
        """Number of network calls of a batch; PNDM has more calls than steps."""
        self.scheduler.set_timesteps(self.steps)
        return len(self.scheduler.timesteps)

    @torch.no_grad()
    def __call__(
        self,
        predict: Predict,
        noise: Float[Tensor, "b c h w"],
        *,
        generators: Sequence[torch.Generator] = (),
        on_step: Callable[[], object] | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """Return images.

        Args:
            predict: the network under its conditions.
            noise: white noise.
            generators: draw the noise that the scheduler adds, one for each image; none draws it from torch's own.
            on_step: called after every network call.
        """
        scheduler = self.scheduler
        # On the CPU, so that no step waits for a device.
        scheduler.set_timesteps(self.steps)
        draws = "generator" in inspect.signature(scheduler.step).parameters
        options = {"generator": list(generators)} if draws and generators else {}
        x = noise * scheduler.init_noise_sigma
        for timestep in scheduler.timesteps:
            inputs = scheduler.scale_model_input(x, timestep)
            output = predict(inputs, timestep.to(x.device).expand(len(x))).to(x.dtype)
            if self.convert is not None:
                output = self.convert(int(timestep), inputs, output)
            x = scheduler.step(output, timestep, x, **options).prev_sample
            if on_step is not None:
                on_step()
        return x


def build_sampler(
    name: SamplerName, schedule: Schedule, prediction: Prediction, steps: int, threshold: float | None = None
) -> ImageSampler:
    """Return a sampler.

    Args:
        name: "ddim" (deterministic, can be inverted), "ddpm" (ancestral), "dpm_solver" (DPM-Solver++, second order) or
            "pndm".
        schedule: the schedule that the network was trained on.
        prediction: what the network predicts.
        steps: number of steps.
        threshold: quantile of dynamic thresholding, such as 0.995, or None for none.

    Raises:
        UserError: if there is no such sampler, or it cannot sample so.
    """
    if name == "ddim":
        return DDIM(schedule, prediction, steps, threshold)
    if name not in get_args(SamplerName):
        raise UserError(f"sampler is {name!r}, should be one of {', '.join(get_args(SamplerName))}")
    if not 1 <= steps <= schedule.timesteps:
        raise UserError(f"steps is {steps}, should be 1 to {schedule.timesteps}")
    check_threshold(threshold)
    if name == "pndm":
        return _pndm(schedule, prediction, steps, threshold)
    return SchedulerSampler(_scheduler(name, schedule, prediction, threshold), steps)


def _pndm(schedule: Schedule, prediction: Prediction, steps: int, threshold: float | None) -> ImageSampler:
    from diffusers import PNDMScheduler

    if threshold is not None:
        raise UserError("sampler pndm: has no dynamic thresholding; threshold has to be null")
    # It extrapolates from predictions of several timesteps, to a higher order if these are eps and at even distances;
    # at the last timesteps of a cosine schedule, which "leading" leaves out, it diverges.
    scheduler = PNDMScheduler(
        **schedule.library_options, timestep_spacing="leading", skip_prk_steps=True, set_alpha_to_one=True
    )
    return SchedulerSampler(scheduler, steps, lambda time, x, output: schedule.at(time).eps(prediction, x, output))


def _scheduler(name: SamplerName, schedule: Schedule, prediction: Prediction, threshold: float | None) -> Any:
    import diffusers

    shared = schedule.library_options | {
        "prediction_type": _LIBRARY_PREDICTIONS[prediction],
        "timestep_spacing": "trailing",
    }
    if threshold is not None:
        # The bound of diffusers' own dynamic thresholding would make it a clamp to 1.
        shared |= {"thresholding": True, "dynamic_thresholding_ratio": threshold, "sample_max_value": float("inf")}
    if name == "ddpm":
        return diffusers.DDPMScheduler(**shared, clip_sample=False)
    return diffusers.DPMSolverMultistepScheduler(**shared)
