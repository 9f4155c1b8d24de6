"""What the network is given and what it predicts (spec, section 2.4): eps, or a v of each part.

With y = x_0 / sigma_k the images of every level have deviation one. For each part (coarse and detail) let A be its
lambda bar times sigma_k and c = 1 / sqrt(A^2 + s^2). The network sees c x of each part. It predicts eps, or

    v = c (A eps - s y),  from which  y = c (A (c x) - s v)  and  eps = c (s (c x) + A v).

Unlike eps, v tells x_0 without a division by A, which is tiny for a detail that has faded.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lightning_modules.dvdp.process import Process
from lightning_modules.dvdp.projection import coarse, scaled

Prediction = Literal["eps", "v"]
Both = tuple[Tensor, Tensor]


class Amplitudes(NamedTuple):
    """A and c of the coarse and of the detail part, and s, each [b, 1, 1, 1]; sigma is the level's deviation."""

    signal: Both
    scale: Both
    noise: Tensor
    sigma: Tensor | float
    is_scaled: bool

    def of_noise(self) -> Both:
        """Return c A, the factor of eps in v and of the scaled state in y."""
        return _product(self.scale, self.signal)

    def of_clean(self) -> Both:
        """Return c s, the factor of -y in v and of -v in y."""
        return _of_both(lambda c: c * self.noise, self.scale)

    def input(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return what the network sees of a state."""
        return scaled(x, *self.scale) if self.is_scaled else x


def _of_both(change: Callable[[Tensor], Tensor], parts: Both) -> Both:
    """Return both parts changed, one object again where there is no detail part."""
    first = change(parts[0])
    return first, (first if parts[1] is parts[0] else change(parts[1]))


def _product(one: Both, other: Both) -> Both:
    first = one[0] * other[0]
    return first, (first if one[1] is one[0] else one[1] * other[1])


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
    signal = _of_both(lambda part: part * deviation, (of_coarse, of_detail))
    scale = _of_both(lambda part: (part**2 + noise**2).rsqrt(), signal)
    return Amplitudes(signal, scale, noise, deviation, sigma is not None)


def target(
    kind: Prediction, at: Amplitudes, clean: Float[Tensor, "b c h w"], noise: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b c h w"]:
    """Return what the network has to predict of a state made of `clean` and `noise`."""
    if kind == "eps":
        return noise
    return scaled(noise, *at.of_noise()) - scaled(clean / at.sigma, *at.of_clean())


def clean_image(
    kind: Prediction, at: Amplitudes, x: Float[Tensor, "b c h w"], output: Float[Tensor, "b c h w"], bound: float | None
) -> Float[Tensor, "b c h w"]:
    """Return the estimate of x_0 at that level.

    Args:
        kind: what the network predicts.
        at: numbers of the state's time.
        x: the state.
        output: what the network said.
        bound: x_0 is clamped to -bound..bound, 2^k at level k; None to leave it.
    """
    if kind == "v":
        of_state = _product(at.of_noise(), at.scale)
        estimate = at.sigma * (scaled(x, *of_state) - scaled(output, *at.of_clean()))
    else:
        estimate = scaled(x - at.noise * output, *_of_both(lambda a: at.sigma / a, at.signal))
    if bound is None:
        return estimate
    if kind == "eps" and at.signal[1] is not at.signal[0]:
        # The detail was divided by its amplitude, which is tiny near a turning point: clamped together with it, the
        # coarse part would be lost in its noise. The steps multiply it by that amplitude again.
        known = coarse(estimate)
        return estimate - known + known.clamp(-bound, bound)
    return estimate.clamp(-bound, bound)
