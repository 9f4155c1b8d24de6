"""The forward process whose dimension varies, and one step of its reverse (§2.1 to §2.4).

While t is in (T_k, T_{k+1}] the state lives at level k, with n / 2^k pixels a side:

    x_t = a_t P x_0 + a_t g_k(t) Q x_0 + s_t eps,    P and Q of projection.py, x_0 at level k,

with a_t = sqrt(alpha bar), s_t = sqrt(1 - alpha bar). At T_{k+1} the detail Q x has faded to delta and is dropped. The
last level has no detail to drop: P = I. With no turning points this is DDPM (Ho et al. 2020).
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Annotated, NamedTuple, TypedDict, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from common.errors import UserError
from common.ranges import PositiveFraction, PositiveInt, Range
from lightning_modules.dvdp.attenuation import NAMES, Attenuation, attenuation
from lightning_modules.dvdp.projection import coarse, detail, scaled, up
from networks.diffusion.schedule import noise_levels
from networks.noise import BatchNoise


class ProcessOptions(TypedDict):
    """The process; see `Process`."""

    timesteps: PositiveInt
    beta_start: Annotated[float, Range(above=0, below=1)]
    beta_end: Annotated[float, Range(above=0, below=1)]
    turning_points: list[PositiveInt]
    delta: PositiveFraction
    attenuation: Attenuation


class Step(NamedTuple):
    """x_r = coarse part by (state, clean) + detail part by (state, clean) + noise, each with its own numbers."""

    state: tuple[float, float]
    clean: tuple[float, float]
    noise: tuple[float, float]


class Process:
    """Schedules and turning points; every number is kept in float64.

    Args:
        timesteps: T.
        beta_start: beta_1 of DDPM's linear schedule.
        beta_end: beta_T.
        turning_points: T_1 < ... < T_K, between 0 and T; empty for DDPM.
        delta: share of the detail that is left at its turning point.
        attenuation: "geometric", "linear", "cosine" or "none".

    Raises:
        UserError: in one line, if these make no process.
    """

    def __init__(
        self,
        *,
        timesteps: int = 1000,
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        turning_points: Sequence[int] = (),
        delta: float = 1e-2,
        attenuation: Attenuation = "geometric",
    ) -> None:
        _check(timesteps, beta_start, beta_end, list(turning_points), delta, attenuation)
        self.steps, self.delta, self.kind = timesteps, delta, attenuation
        self.bounds = (0, *turning_points, timesteps)
        betas = torch.linspace(beta_start, beta_end, timesteps, dtype=torch.float64)
        self.signal, self.noise = noise_levels(betas)
        """a_t and s_t for t = 0..T."""

    @property
    def last_level(self) -> int:
        """K, the number of turning points."""
        return len(self.bounds) - 2

    @property
    def shares(self) -> list[float]:
        """The share of all times that each level has; also the probability with which training draws it."""
        return [(after - before) / self.steps for before, after in pairwise(self.bounds)]

    def level_of(self, time: int) -> int:
        """Return the level k with time in (T_k, T_{k+1}]."""
        return sum(time > bound for bound in self.bounds[1:-1])

    def draw_times(self, level: int, count: int, noise: BatchNoise) -> Int[Tensor, " b"]:
        """Draw times uniformly in a level's (T_k, T_{k+1}], on the CPU, for so many of this process's samples."""
        return noise.integers("times", self.bounds[level] + 1, self.bounds[level + 1] + 1, (count,))

    def fading(self, level: int, time: Tensor) -> Tensor:
        """Return g_k(t) in float64 for whole times of a level; 1 at the last level."""
        if level == self.last_level:
            return torch.ones(time.shape, dtype=torch.float64)
        first, last = self.bounds[level], self.bounds[level + 1]
        return attenuation(self.kind, (time.double() - first) / (last - first), self.delta)

    def amplitudes(
        self, level: int, time: Int[Tensor, " b"], device: torch.device | str = "cpu"
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return lambda bar of the coarse and of the detail part, and s_t, each float32 [b, 1, 1, 1], of CPU times."""
        signal = self.signal[time]
        of_coarse = _column(signal, device)
        # One object for both at the last level, so that nobody splits an image in vain.
        of_detail = of_coarse if level == self.last_level else _column(signal * self.fading(level, time), device)
        return of_coarse, of_detail, _column(self.noise[time], device)

    def diffuse(
        self, clean: Float[Tensor, "b c h w"], level: int, time: Int[Tensor, " b"], noise: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """Return x_t of clean images at that level, in closed form."""
        of_coarse, of_detail, of_noise = self.amplitudes(level, time, clean.device)
        return scaled(clean, of_coarse, of_detail) + of_noise * noise

    def _lambdas(self, level: int, time: int) -> tuple[float, float]:
        signal = float(self.signal[time])
        return signal, signal * float(self.fading(level, torch.tensor(time)))

    def step(self, level: int, time: int, earlier: int, eta: float) -> Step:
        """Return the numbers of the reverse step from `time` to `earlier`, both of this level (T_k <= earlier < time).

        eta = 1 is the posterior q(x_r | x_t, x_0) (§2.3), with a variance of its own for each part; eta = 0 is
        DDIM, which adds no noise. In between the noise is eta times the posterior's (Song et al. 2021).
        """
        s_t, s_r = float(self.noise[time]), float(self.noise[earlier])
        states, cleans, noises = [], [], []
        for now, then in zip(self._lambdas(level, time), self._lambdas(level, earlier), strict=True):
            fresh = max(0.0, s_t**2 - (now / then) ** 2 * s_r**2)
            noise = eta * fresh**0.5 * s_r / s_t
            state = max(0.0, s_r**2 - noise**2) ** 0.5 / s_t
            states.append(state)
            cleans.append(then - state * now)
            noises.append(noise)
        return Step(*((pair[0], pair[1]) for pair in (states, cleans, noises)))

    def jump(
        self, x: Float[Tensor, "b c h w"], level: int, noise: Float[Tensor, "b c 2*h 2*w"]
    ) -> Float[Tensor, "b c 2*h 2*w"]:
        """Return the state at T_level one level finer: D^T x, and s Q noise where the detail was dropped."""
        return up(x) + float(self.noise[self.bounds[level]]) * detail(noise)

    def start_is_off(self, deviation: float) -> float:
        """Return a_T sigma_K / s_T, which has to be small for the reverse to start from pure noise."""
        return float(self.signal[-1] / self.noise[-1]) * deviation


def apply(
    step: Step, x: Float[Tensor, "b c h w"], clean: Float[Tensor, "b c h w"], noise: Tensor | None
) -> Float[Tensor, "b c h w"]:
    """Return the state after a reverse step; `noise` is white, None where the step adds none."""
    parts = [(x, step.state), (clean, step.clean)] + ([(noise, step.noise)] if noise is not None else [])
    result = _sum(of_detail * image for image, (_, of_detail) in parts)
    if all(of_coarse == of_detail for _, (of_coarse, of_detail) in parts):
        return result
    return result + coarse(_sum((of_coarse - of_detail) * image for image, (of_coarse, of_detail) in parts))


def _sum(parts: Iterable[Tensor]) -> Tensor:
    # There is at least one part, so that the sum is no plain 0.
    return cast(Tensor, sum(parts))


def _column(values: Tensor, device: torch.device | str) -> Tensor:
    return values.float().to(device)[:, None, None, None]


def _check(steps: int, first: float, last: float, turns: list[int], delta: float, kind: str) -> None:
    if steps < 1 or not 0 < first <= last < 1:
        raise UserError(f"process: timesteps is {steps}, beta {first} to {last}: at least 1, 0 < first <= last < 1")
    if kind not in NAMES:
        raise UserError(f"process.attenuation is {kind!r}, should be one of {', '.join(NAMES)}")
    if any(after <= before for before, after in pairwise(turns)):
        raise UserError(f"process.turning_points is {turns}: each has to be later than the one before")
    if turns and not 0 < turns[0] <= turns[-1] < steps:
        raise UserError(f"process.turning_points is {turns}: each has to be between 1 and {steps - 1} (steps - 1)")
    if not 0 < delta <= 1:
        raise UserError(f"process.delta is {delta}, should be above 0 and at most 1")
