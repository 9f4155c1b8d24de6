"""Noise schedules: signal and noise level of every timestep."""

from typing import Annotated, Any, Literal, TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor

from common.errors import UserError
from common.ranges import PositiveInt, Range
from networks.diffusion.parameterization import Levels

BetaSchedule = Literal["linear", "cosine", "scaled_linear"]

_LIBRARY_NAMES = {"linear": "linear", "cosine": "squaredcos_cap_v2", "scaled_linear": "scaled_linear"}
CLEAN = -1
"""The timestep of the clean image, before the first noisy one, which is 0."""


class ScheduleOptions(TypedDict):
    """The schedule; see `Schedule`."""

    timesteps: PositiveInt
    beta_schedule: BetaSchedule
    beta_start: Annotated[float, Range(above=0, below=1)]
    beta_end: Annotated[float, Range(above=0, below=1)]


def noise_levels(betas: Float[Tensor, " t"]) -> tuple[Float[Tensor, " t+1"], Float[Tensor, " t+1"]]:
    """Return sqrt(alpha bar) and sqrt(1 - alpha bar), of the clean image first and then of every timestep.

    Args:
        betas: variance that each step of the forward process adds (Ho et al. 2020).
    """
    cumulative = torch.cat([torch.ones(1, dtype=betas.dtype), torch.cumprod(1 - betas, 0)])
    return cumulative.sqrt(), (1 - cumulative).sqrt()


class Schedule:
    """Signal and noise levels of timesteps 0..T-1 in float32, and of the clean image, as timestep -1.

    Args:
        timesteps: T.
        beta_schedule: "linear" (Ho et al. 2020), "cosine" (Nichol and Dhariwal 2021) or "scaled_linear" (Stable
            Diffusion: the square root of beta is linear).
        beta_start: beta of timestep 0; "cosine" has no use for it.
        beta_end: beta of the last timestep; "cosine" has no use for it.

    Raises:
        UserError: in one line, if these make no schedule.
    """

    def __init__(
        self,
        *,
        timesteps: int = 1000,
        beta_schedule: BetaSchedule = "linear",
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
    ) -> None:
        if beta_schedule not in _LIBRARY_NAMES:
            raise UserError(f"beta_schedule is {beta_schedule!r}, should be one of {', '.join(_LIBRARY_NAMES)}")
        if timesteps < 1 or not 0 < beta_start <= beta_end < 1:
            raise UserError(
                f"schedule: timesteps is {timesteps}, beta {beta_start} to {beta_end}: needs at least 1 timestep and"
                " 0 < beta_start <= beta_end < 1"
            )
        # Here, so that only runs with a diffusion model pay for the import.
        from diffusers import DDPMScheduler

        self.timesteps = timesteps
        self.library_options: dict[str, Any] = {
            "num_train_timesteps": timesteps,
            "beta_schedule": _LIBRARY_NAMES[beta_schedule],
            "beta_start": beta_start,
            "beta_end": beta_end,
        }
        """Arguments with which any scheduler of diffusers has the same schedule."""
        # Numbers even where a model is built on the meta device, to count its cost.
        with torch.device("cpu"):
            scheduler: Any = DDPMScheduler(**self.library_options)
            self._signal, self._noise = noise_levels(scheduler.betas)

    def levels(self, timesteps: Int[Tensor, " b"], device: torch.device | str = "cpu") -> Levels:
        """Return the levels of timesteps, each [b, 1, 1, 1].

        Args:
            timesteps: timesteps, best on the CPU so that no device is waited for.
            device: where the levels go.
        """
        places = timesteps.cpu() + 1
        return Levels(*(part[places].to(device)[:, None, None, None] for part in (self._signal, self._noise)))

    def at(self, timestep: int) -> Levels:
        """Return the levels of one timestep as scalars, which multiply images on any device."""
        return Levels(self._signal[timestep + 1], self._noise[timestep + 1])

    def snr(self, timesteps: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return the signal-to-noise ratio alpha bar / (1 - alpha bar) of noisy timesteps, on the CPU."""
        places = timesteps.cpu() + 1
        return (self._signal[places] / self._noise[places]) ** 2

    def draw_timesteps(self, count: int, generator: torch.Generator | None = None) -> Int[Tensor, " b"]:
        """Draw noisy timesteps uniformly, on the CPU."""
        return torch.randint(self.timesteps, (count,), generator=generator, device="cpu")
