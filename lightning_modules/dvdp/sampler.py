"""The reverse chain: from noise at the coarsest level up to an image (§2.4)."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple, Protocol, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor

from common.errors import UserError
from common.ranges import NonNegativeInt, PositiveInt
from lightning_modules.dvdp.parameterization import DVDPPrediction, amplitudes, clean_image
from lightning_modules.dvdp.process import Process, apply
from networks.diffusion.generation import image_noise

Method = Literal["ancestral", "ddim"]


class SamplerOptions(TypedDict):
    """The reverse chain: ancestral or DDIM, whether x_0 is clamped, and the steps of the sheets while training."""

    method: Method
    clip_sample: bool
    steps: PositiveInt
    preview_images: NonNegativeInt


class Denoiser(Protocol):
    """A network: what it predicts of states [b, c, h, w] at a level and a time."""

    def __call__(self, x: Tensor, level: int, time: Tensor) -> Tensor:
        """Return the prediction [b, c, h, w] for times [b]."""
        ...


class Visit(NamedTuple):
    """One reverse step: at `level`, from `time` to `earlier`."""

    level: int
    time: int
    earlier: int


class State(NamedTuple):
    """Where a chain is after a step or a jump: the state, the estimate of x_0 it was made with, level and time."""

    x: Tensor
    clean: Tensor | None
    level: int
    time: int


def visits(process: Process, steps: int) -> list[Visit]:
    """Return the reverse steps, spread over the levels by their lengths; every turning point is one of their ends.

    Raises:
        UserError: if there are fewer steps than levels, or more than times.
    """
    levels = process.last_level + 1
    if not levels <= steps <= process.steps:
        raise UserError(
            f"steps is {steps}, should be {levels} (a step for every level) to {process.steps} (a step for every time)"
        )
    counts = _shared_out(steps, [after - before for before, after in pairwise(process.bounds)])
    found = []
    for level in reversed(range(levels)):
        first, last = process.bounds[level], process.bounds[level + 1]
        times = torch.linspace(last, first, counts[level] + 1, dtype=torch.float64).round().long().tolist()
        found += [Visit(level, time, earlier) for time, earlier in pairwise(times)]
    return found


def _shared_out(steps: int, lengths: list[int]) -> list[int]:
    """Return how many steps each level gets: by length, at least one and at most one for every time."""
    counts = [1] * len(lengths)
    for _ in range(steps - len(lengths)):
        wanting = [length / count if count < length else 0.0 for length, count in zip(lengths, counts, strict=True)]
        counts[wanting.index(max(wanting))] += 1
    return counts


class Sampler:
    """Draws images of a network.

    Args:
        process: the process that the network was trained on.
        prediction: what it predicts.
        sigmas: deviation of the clean images at every level, None to take them as they are.
        method: "ancestral" or "ddim".
        steps: reverse steps, over all levels together.
        clip: whether estimates of x_0 are clamped to the range of images at their level.

    Raises:
        UserError: if the steps cannot be shared out.
    """

    def __init__(
        self,
        process: Process,
        prediction: DVDPPrediction,
        sigmas: Sequence[Tensor | float] | None,
        *,
        method: Method = "ddim",
        steps: int = 50,
        clip: bool = True,
    ) -> None:
        self.process, self.prediction, self.sigmas, self.clip = process, prediction, sigmas, clip
        self.eta = {"ancestral": 1.0, "ddim": 0.0}[method]
        self.visits = visits(process, steps)

    def chain(
        self,
        network: Denoiser,
        shape: tuple[int, int, int],
        generators: Sequence[torch.Generator],
        jump_generators: Sequence[torch.Generator] | None = None,
    ) -> Iterator[State]:
        """Yield the states from the first noise to the images, which come last.

        Args:
            network: the denoiser.
            shape: of an image [c, h, w].
            generators: one for each image draws all of its noise, on its device; so one seed gives one image.
            jump_generators: draw the details of the jumps instead, to change these alone.
        """
        process, device = self.process, generators[0].device
        channels, height, width = shape

        def white(level: int, sources: Sequence[torch.Generator]) -> Tensor:
            return image_noise((channels, height >> level, width >> level), sources, device)

        level = process.last_level
        x = white(level, generators)
        yield State(x, None, level, process.steps)
        for visit in self.visits:
            if visit.level < level:
                x = process.jump(x, level, white(visit.level, jump_generators or generators))
                level = visit.level
                yield State(x, None, level, visit.time)
            step = process.step(level, visit.time, visit.earlier, self.eta)
            clean = self.estimate(network, x, level, visit.time)
            x = apply(step, x, clean, white(level, generators) if max(step.noise) > 0 else None)
            yield State(x, clean, level, visit.earlier)

    def estimate(self, network: Denoiser, x: Float[Tensor, "b c h w"], level: int, time: int) -> Tensor:
        """Return the network's estimate of x_0 at a level, in float32."""
        sigma = None if self.sigmas is None else self.sigmas[level]
        at = amplitudes(self.process, level, torch.tensor([time]), sigma, x.device)
        output = network(at.input(x), level, torch.full((len(x),), time, device=x.device)).float()
        return clean_image(self.prediction, at, x, output, 2.0**level if self.clip else None)

    @torch.no_grad()
    def __call__(
        self,
        network: Denoiser,
        shape: tuple[int, int, int],
        generators: Sequence[torch.Generator],
        *,
        jump_generators: Sequence[torch.Generator] | None = None,
        on_step: Callable[[], object] | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """Return images in -1..1; see `chain`. `on_step` is called after every network call."""
        state = None
        for state in self.chain(network, shape, generators, jump_generators):
            if on_step is not None and state.clean is not None:
                on_step()
        assert state is not None
        return state.x.clamp(-1, 1) if self.clip else state.x
