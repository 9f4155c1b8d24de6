"""Deterministic DDIM (Song et al. 2021): sampling, and its inversion on the same timesteps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from common.errors import UserError
from networks.diffusion.conditions import Predict
from networks.diffusion.parameterization import Levels, Prediction
from networks.diffusion.schedule import CLEAN, Schedule


def dynamic_threshold(clean: Float[Tensor, "b c h w"], quantile: float) -> Float[Tensor, "b c h w"]:
    """Return estimates of x_0, each clamped to the quantile of its absolute values and divided by it where above 1.

    Dynamic thresholding of Saharia et al. 2022, section 2.3.
    """
    # One image at a time, as torch.quantile refuses more than 16 million values.
    bounds = torch.stack([torch.quantile(image.float().abs().flatten(), quantile) for image in clean])
    bound = bounds.clamp(min=1).to(clean.dtype)[:, None, None, None]
    return clean.clamp(-bound, bound) / bound


def step_coefficients(prediction: Prediction, now: Levels, then: Levels) -> tuple[Tensor, Tensor]:
    """Return A and B of the DDIM step A x + B output from one level to another, of scalar levels.

    The step keeps the estimates of x_0 and eps: x' = signal' x_0 + noise' eps (Song et al. 2021, equation 12).
    """
    signal, noise, signal_then, noise_then = *now, *then
    if prediction == "eps":
        return signal_then / signal, noise_then - noise * signal_then / signal
    if prediction == "x0":
        return noise_then / noise, signal_then - signal * noise_then / noise
    return signal * signal_then + noise * noise_then, signal * noise_then - noise * signal_then


@dataclass(frozen=True)
class DDIM:
    """DDIM without noise: the image is a function of the first noise.

    Attributes:
        schedule: the schedule that the network was trained on.
        prediction: what the network predicts.
        steps: number of steps.
        threshold: quantile of dynamic thresholding while sampling, such as 0.995, or None for none.

    Raises:
        UserError: if the steps are not 1..T, or the threshold is not in 0..1.
    """

    schedule: Schedule
    prediction: Prediction
    steps: int
    threshold: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= self.schedule.timesteps:
            raise UserError(f"steps is {self.steps}, should be 1 to {self.schedule.timesteps}")
        check_threshold(self.threshold)

    @property
    def calls(self) -> int:
        """Number of network calls of a batch."""
        return self.steps

    @property
    def timesteps(self) -> list[int]:
        """Evenly spaced timesteps from T - 1 down, diffusers' "trailing": the first is that of pure noise."""
        return [round(self.schedule.timesteps * place / self.steps) - 1 for place in range(self.steps, 0, -1)]

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
            noise: white noise, or the latent that an inversion returned.
            generators: not used, as no noise is added.
            on_step: called after every network call.
        """
        x = noise
        for timestep, earlier in pairwise([*self.timesteps, CLEAN]):
            x = self._denoised(x, _output(predict, x, timestep), timestep, earlier)
            if on_step is not None:
                on_step()
        return x

    def _denoised(self, x: Tensor, output: Tensor, timestep: int, earlier: int) -> Tensor:
        now, then, prediction = self.schedule.at(timestep), self.schedule.at(earlier), self.prediction
        if self.threshold is not None:
            output, prediction = dynamic_threshold(now.clean(prediction, x, output), self.threshold), "x0"
        of_state, of_output = step_coefficients(prediction, now, then)
        return of_state * x + of_output * output

    @torch.no_grad()
    def invert(
        self, predict: Predict, images: Float[Tensor, "b c h w"], *, on_step: Callable[[], object] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Return the latent from which sampling leads back to images, on the reversed list of timesteps.

        Each step is the exact inverse of the sampling step for the same network output, which is computed at the step's
        noisier timestep, from the less noisy state: the only error. Estimates of x_0 are never clamped.

        Args:
            predict: the network under its conditions.
            images: clean images.
            on_step: called after every network call.

        Raises:
            UserError: if the network predicts x_0, as then the last sampling step forgets the state.
        """
        if self.prediction == "x0":
            raise UserError(
                "DDIM inversion needs a network that predicts eps or v: of x0 the last step is not invertible"
            )
        x = images
        for earlier, timestep in pairwise([CLEAN, *reversed(self.timesteps)]):
            output = _output(predict, x, timestep)
            of_state, of_output = step_coefficients(
                self.prediction, self.schedule.at(timestep), self.schedule.at(earlier)
            )
            x = (x - of_output * output) / of_state
            if on_step is not None:
                on_step()
        return x


def _output(predict: Predict, x: Tensor, timestep: int) -> Tensor:
    return predict(x, torch.full((len(x),), timestep, device=x.device)).to(x.dtype)


def check_threshold(threshold: float | None) -> None:
    """Raise UserError for a quantile that is none."""
    if threshold is not None and not 0 < threshold <= 1:
        raise UserError(f"threshold is {threshold}, should be a quantile above 0 and at most 1, or null")
