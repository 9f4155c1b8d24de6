"""What the network is given and what it predicts: eps, or a v of each part (§2.5).

With y = x_0 / sigma_k the images of every level have deviation one. For each part (coarse and detail) let A be its
lambda bar times sigma_k and c = 1 / sqrt(A^2 + s^2). The network sees c x of each part, of signal level c A and noise
level c s. It predicts eps, or

    v = c (A eps - s y),  from which  y = c (A (c x) - s v)  and  eps = c (s (c x) + A v).

Unlike eps, v gives x_0 without a division by A, which is tiny for a detail that has faded.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lightning_modules.dvdp.process import Process
from lightning_modules.dvdp.projection import PerPart, coarse
from networks.diffusion.parameterization import clean_of_velocity, velocity

DVDPPrediction = Literal["eps", "v"]


class Amplitudes(NamedTuple):
    """A and c of the coarse and of the detail part, and s [b, 1, 1, 1]; sigma is the level's deviation."""

    signal: PerPart
    scale: PerPart
    noise: Tensor
    sigma: Tensor | float
    is_scaled: bool

    @property
    def of_noise(self) -> PerPart:
        """Return c A, the factor of eps in v and of the scaled state in y."""
        return self.scale.each(torch.mul, self.signal)

    @property
    def of_clean(self) -> PerPart:
        """Return c s, the factor of -y in v and of -v in y."""
        return self.scale.each(lambda c: c * self.noise)

    def input(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return what the network sees of a state."""
        return self.scale * x if self.is_scaled else x


def amplitudes(
    process: Process,
    level: int,
    time: Int[Tensor, " b"],
    sigma: Tensor | float | None,
    device: torch.device | str = "cpu",
) -> Amplitudes:
    """Return the numbers of these times at a level.

    Args:
        process: the process.
        level: k.
        time: times of that level, on the CPU.
        sigma: deviation of the clean images at that level, None to take images and states as they are.
        device: where the numbers go.
    """
    of_coarse, of_detail, noise = process.amplitudes(level, time, device)
    deviation: Tensor | float = 1.0 if sigma is None else sigma
    signal = PerPart(of_coarse, of_detail).each(lambda part: part * deviation)
    scale = signal.each(lambda part: (part**2 + noise**2).rsqrt())
    return Amplitudes(signal, scale, noise, deviation, sigma is not None)


def target(
    kind: DVDPPrediction, at: Amplitudes, clean: Float[Tensor, "b c h w"], noise: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b c h w"]:
    """Return what the network has to predict of a state made of `clean` and `noise`."""
    return noise if kind == "eps" else velocity(at.of_noise, at.of_clean, clean / at.sigma, noise)


def clean_image(
    kind: DVDPPrediction,
    at: Amplitudes,
    x: Float[Tensor, "b c h w"],
    output: Float[Tensor, "b c h w"],
    bound: float | None,
) -> Float[Tensor, "b c h w"]:
    """Return the estimate of x_0 at that level.

    Args:
        kind: what the network predicts.
        at: numbers of the state's time.
        x: the state.
        output: the network's prediction.
        bound: x_0 is clamped to -bound..bound, 2^k at level k; None to leave it.
    """
    if kind == "v":
        # The state's scale c is part of its factor, so that the state is split into its parts once.
        estimate = at.sigma * clean_of_velocity(at.of_noise.each(torch.mul, at.scale), at.of_clean, x, output)
    else:
        estimate = at.signal.each(lambda a: at.sigma / a) * (x - at.noise * output)
    if bound is None:
        return estimate
    if kind == "eps" and at.signal.has_detail:
        # The detail was divided by its amplitude, which is tiny near a turning point: clamped together with it, the
        # coarse part would be lost in its noise. The steps multiply it by that amplitude again.
        known = coarse(estimate)
        return estimate - known + known.clamp(-bound, bound)
    return estimate.clamp(-bound, bound)
