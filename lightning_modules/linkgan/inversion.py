"""Projection of a picture into the latents of a generator by optimization, so that it can be edited (linkgan §2.9)."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from common.ranges import Fraction, NonNegativeFloat, PositiveFloat, PositiveInt
from lightning_modules.linkgan.editing import EditableGenerator
from lightning_modules.progress import progress

Space = Literal["w", "w+"]
Distance = Callable[[Tensor, Tensor], Tensor]
"""From two batches of images in -1..1 to a distance [b] of each pair."""
_STATISTICS_BATCH = 1024


class ProjectionOptions(TypedDict):
    """How a picture is projected; the values are those of stylegan2-ada-pytorch's projector.

    `space`: "w" for one latent of all layers, "w+" for one of each. `steps`: steps of Adam. `lr`: largest learning
    rate. `samples`: latents of which average and deviation are taken. `latent_noise`: deviation of the noise on the
    latents at first, in deviations of w; it falls to 0 at `noise_end`. `warmup`, `cooldown`: first and last share of
    the steps, in which the learning rate rises and falls. `noise_weight`: weight of the regularization of noise maps.
    """

    space: Space
    steps: PositiveInt
    lr: PositiveFloat
    samples: PositiveInt
    latent_noise: NonNegativeFloat
    noise_end: Fraction
    warmup: Fraction
    cooldown: Fraction
    noise_weight: NonNegativeFloat


PROJECTOR: ProjectionOptions = {
    "space": "w",
    "steps": 1000,
    "lr": 0.1,
    "samples": 10000,
    "latent_noise": 0.05,
    "noise_end": 0.75,
    "warmup": 0.05,
    "cooldown": 0.25,
    "noise_weight": 1e5,
}
"""The options of stylegan2-ada-pytorch's projector."""


class Projection(NamedTuple):
    """Latents of a picture.

    `ws` float [1, n, w], one for every layer; `noise` maps of the convolutions, if any; `distance` of the picture and
    its reconstruction.
    """

    ws: Tensor
    noise: list[Tensor]
    distance: float


class WStatistics(NamedTuple):
    """Average [1, 1, w] of w and its deviation, one number over all axes: root of the mean squared distance."""

    average: Tensor
    deviation: float


@torch.no_grad()
def w_statistics(generator: EditableGenerator, samples: int, device: torch.device) -> WStatistics:
    """Return statistics of w over latents of a fixed seed."""
    z = torch.randn(samples, generator.z_dim, generator=torch.Generator().manual_seed(0))
    w = torch.cat([generator.to_w(part.to(device)) for part in z.split(_STATISTICS_BATCH)])
    average = w.mean(dim=0, keepdim=True)
    return WStatistics(average[:, None], float((w - average).square().sum(dim=1).mean().sqrt()))


def learning_rate(options: ProjectionOptions, step: int) -> float:
    """Return the learning rate of a step: linear warmup, cosine over the last share."""
    done = step / options["steps"]
    ramp = min(1.0, (1 - done) / options["cooldown"]) if options["cooldown"] else 1.0
    ramp = 0.5 - 0.5 * math.cos(math.pi * ramp)
    return options["lr"] * ramp * (min(1.0, done / options["warmup"]) if options["warmup"] else 1.0)


def noise_regularization(maps: list[Tensor]) -> Tensor:
    """Return how much noise maps [1, 1, s, s] resemble their shifted selves, at all scales down to 8 pixels.

    Without it, details of the picture would be painted into the noise.
    """
    total = torch.zeros((), device=maps[0].device)
    for noise in maps:
        scaled = noise
        while True:
            for axis in (2, 3):
                total = total + (scaled * scaled.roll(1, dims=axis)).mean().square()
            if scaled.shape[2] <= 8:
                break
            scaled = functional.avg_pool2d(scaled, 2)
    return total


def _noise_maps(sides: Sequence[int], device: torch.device) -> list[Tensor]:
    source = torch.Generator().manual_seed(1)
    return [torch.randn(1, 1, side, side, generator=source).to(device).requires_grad_() for side in sides]


def pixel_distance(one: Float[Tensor, "b c h w"], other: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Return the mean squared difference of images."""
    return (one - other).square().mean(dim=(1, 2, 3))


def project(
    generator: EditableGenerator,
    picture: Float[Tensor, "1 c h w"],
    distance: Distance,
    options: ProjectionOptions,
) -> Projection:
    """Return the latents whose image is closest to a picture.

    As in stylegan2-ada-pytorch's projector, the latent starts at the average of w, moves by Adam (betas 0.9 and 0.999)
    with noise that fades, and noise maps are optimized along with it and normalized after every step.

    Args:
        generator: the generator, frozen and in eval mode.
        picture: the picture in -1..1, of the generator's size.
        distance: what is minimized.
        options: see `ProjectionOptions`.
    """
    device = picture.device
    statistics, layers = w_statistics(generator, options["samples"], device), generator.num_ws
    rows = layers if options["space"] == "w+" else 1
    latent = statistics.average.repeat(1, rows, 1).requires_grad_()
    noise = _noise_maps(generator.noise_sides, device)
    optimizer = torch.optim.Adam([latent, *noise], lr=options["lr"], betas=(0.9, 0.999))
    source = torch.Generator().manual_seed(2)
    with torch.enable_grad(), progress(f"projecting into {options['space']}", options["steps"]) as advance:
        for step in range(options["steps"]):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(options, step)
            fade = max(0.0, 1 - step / options["steps"] / options["noise_end"]) ** 2 if options["noise_end"] else 0.0
            grain = torch.randn(latent.shape, generator=source).to(device)
            ws = latent + grain * (statistics.deviation * options["latent_noise"] * fade)
            image = generator.synthesize(ws.expand(-1, layers, -1), noise or "none").image
            loss = distance(image, picture).sum()
            if noise:
                loss = loss + options["noise_weight"] * noise_regularization(noise)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            _normalize(noise)
            advance()
    ws, maps = latent.detach().expand(-1, layers, -1).contiguous(), [part.detach() for part in noise]
    with torch.no_grad():
        image = generator.synthesize(ws, maps or "none").image
        return Projection(ws, maps, float(distance(image, picture)))


@torch.no_grad()
def _normalize(maps: list[Tensor]) -> None:
    for noise in maps:
        noise.sub_(noise.mean())
        noise.mul_(noise.square().mean().rsqrt())
