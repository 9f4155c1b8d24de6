"""What a diffusion network predicts of a noisy image, and what one prediction says of the others.

A noisy image is x = signal x_0 + noise eps. The network predicts eps (Ho et al. 2020), x_0, or v (Salimans and Ho
2022):

    v = signal eps - noise x_0,  from which  x_0 = signal x - noise v  and  eps = noise x + signal v

for a schedule that preserves the variance: signal^2 + noise^2 = 1.
"""

from typing import Literal, NamedTuple, Protocol

from jaxtyping import Float
from torch import Tensor

Prediction = Literal["eps", "v", "x0"]


class Factor(Protocol):
    """Something that images are multiplied by: a tensor, or factors of parts of an image."""

    def __mul__(self, image: Tensor, /) -> Tensor:
        """Return the image [b, c, h, w], multiplied."""
        ...


def velocity(
    signal: Factor, noise: Factor, clean: Float[Tensor, "b c h w"], eps: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b c h w"]:
    """Return v of a clean image and its noise."""
    return signal * eps - noise * clean


def clean_of_velocity(
    signal: Factor, noise: Factor, x: Float[Tensor, "b c h w"], v: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b c h w"]:
    """Return x_0 of a noisy image and its v."""
    return signal * x - noise * v


class Levels(NamedTuple):
    """Signal and noise level of timesteps: scalars, or [b, 1, 1, 1]."""

    signal: Tensor
    noise: Tensor

    def diffuse(self, clean: Float[Tensor, "b c h w"], eps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the noisy image."""
        return self.signal * clean + self.noise * eps

    def target(
        self, prediction: Prediction, clean: Float[Tensor, "b c h w"], eps: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """Return what a network has to predict of the noisy image."""
        if prediction == "eps":
            return eps
        return clean if prediction == "x0" else velocity(self.signal, self.noise, clean, eps)

    def clean(
        self, prediction: Prediction, x: Float[Tensor, "b c h w"], output: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """Return the estimate of x_0 that a network's output implies for a noisy image x."""
        if prediction == "v":
            return clean_of_velocity(self.signal, self.noise, x, output)
        return output if prediction == "x0" else (x - self.noise * output) / self.signal

    def eps(
        self, prediction: Prediction, x: Float[Tensor, "b c h w"], output: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """Return the estimate of eps that a network's output implies for a noisy image x."""
        if prediction == "v":
            return self.noise * x + self.signal * output
        return output if prediction == "eps" else (x - self.signal * output) / self.noise
