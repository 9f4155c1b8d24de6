"""The random numbers of a training batch: those of a sample depend on its position in the GLOBAL batch alone."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from networks.distributed import own_positions
from networks.seeds import named_seed, seeded


@dataclass(frozen=True)
class BatchNoise:
    """Draws everything that is random in one training batch, alike on any number of processes.

    A number depends on the run's seed, the stream's name, the number of the batch and the position of its sample in the
    global batch, of which every process holds an equal, contiguous part in the order of ranks. Nothing is kept between
    two draws. So a run on two processes is the run on one, a resumed run continues with the same noise, and no part
    moves the draws of another: every part that draws, an optional one above all, has a stream of its own name. Two
    draws of one name give the same numbers.

        noise = BatchNoise(seed, batches_seen)
        z = noise.normal("latents", (len(images), 512), device=images.device)
        of_critic = noise.part("discriminator")  # its "latents" are others

    Attributes:
        seed: the run's seed.
        step: number of the batch, counted from the start of training: a counter that checkpoints hold.
        positions: positions of the samples that numbers are drawn for, where they are not this process's equal part:
            some of it, or indices in a data set, so that an evaluation draws alike in batches of any size.
        name: what the names of all streams begin with.
    """

    seed: int
    step: int
    positions: Sequence[int] | None = None
    name: str = ""

    def part(self, name: str) -> "BatchNoise":
        """Return the noise of a part, whose streams are its own."""
        return replace(self, name=f"{self.name}{name}/")

    def at(self, positions: Sequence[int]) -> "BatchNoise":
        """Return the noise of samples at other positions."""
        return replace(self, positions=positions)

    def normal(
        self,
        stream: str,
        shape: Sequence[int],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> Float[Tensor, "b ..."]:
        """Return numbers of mean zero and deviation one.

        Args:
            stream: name of the stream.
            shape: number of this process's samples, and the shape of the numbers of one.
            device: where they are drawn and returned; other devices draw other numbers.
            dtype: torch's default unless given.

        Raises:
            ValueError: if positions are given and are not as many.
        """
        drawn = torch.empty(*shape, device=device, dtype=dtype)
        for row, generator in self._rows(stream, drawn):
            row.normal_(generator=generator)
        return drawn

    def uniform(
        self,
        stream: str,
        shape: Sequence[int],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> Float[Tensor, "b ..."]:
        """Return numbers evenly from 0 to below 1; see `normal`."""
        drawn = torch.empty(*shape, device=device, dtype=dtype)
        for row, generator in self._rows(stream, drawn):
            row.uniform_(generator=generator)
        return drawn

    def integers(self, stream: str, low: int, high: int, shape: Sequence[int]) -> Int[Tensor, "b ..."]:
        """Return whole numbers evenly from `low` to below `high`, on the CPU; see `normal`."""
        drawn = torch.empty(*shape, dtype=torch.int64)
        for row, generator in self._rows(stream, drawn):
            row.random_(low, high, generator=generator)
        return drawn

    def shared(self, stream: str, device: torch.device | str = "cpu") -> torch.Generator:
        """Return what draws numbers that are no sample's (a permutation, a level): the same on all processes."""
        return torch.Generator(device).manual_seed(self._seed(stream))

    @contextmanager
    def seeding(self, stream: str) -> Iterator[None]:
        """Let torch's default generators draw `shared` numbers within, for what takes no generator."""
        with seeded(self._seed(stream)):
            yield

    def _seed(self, stream: str, *position: int) -> int:
        return named_seed(self.seed, self.name + stream, self.step, *position)

    def _rows(self, stream: str, drawn: Tensor) -> Iterator[tuple[Tensor, torch.Generator]]:
        positions = own_positions(len(drawn)) if self.positions is None else self.positions
        if len(positions) != len(drawn):
            raise ValueError(f"noise of {len(positions)} samples, numbers asked for {len(drawn)}")
        generator = torch.Generator(drawn.device)
        # Sample by sample: how torch draws many numbers depends on how many are asked for.
        for k, position in enumerate(positions):
            yield drawn[k : k + 1], generator.manual_seed(self._seed(stream, position))


def with_grain(images: Float[Tensor, "b c h w"], grain: float, noise: BatchNoise) -> Float[Tensor, "b c h w"]:
    """Return images of which about half have white noise, of a strength up to `grain`, drawn for each."""
    drawn = noise.uniform("strength", (len(images), 1, 1, 1), device=images.device, dtype=images.dtype)
    white = noise.normal("grain", images.shape, device=images.device, dtype=images.dtype)
    return images + grain * (2 * drawn - 1).clamp_min(0) * white
