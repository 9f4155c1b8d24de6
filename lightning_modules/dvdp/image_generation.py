"""Images in batches, drawn with a denoiser by any sampler."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_modules.dvdp.sampler import Denoiser, Sampler, State
from lightning_modules.generated_images import rank_share
from lightning_modules.progress import progress
from networks.seeds import stream_generator


@dataclass(frozen=True)
class ImageGenerator:
    """Generates images in -1..1; image k depends on k and the seed alone.

    Attributes:
        network: the denoiser.
        shape: shape [c, h, w] of an image.
        batch_size: number of images drawn at a time.
        seed: seed of all noise.
        device: device that the images are drawn on.
    """

    network: Denoiser
    shape: tuple[int, int, int]
    batch_size: int
    seed: int
    device: torch.device

    def images(
        self, sampler: Sampler, count: int, *, share: tuple[int, int] = (0, 1)
    ) -> Iterator[Float[Tensor, "b c h w"]]:
        """Yield `count` images, a batch at a time.

        Args:
            sampler: the sampler.
            count: number of images, over all processes.
            share: which process of how many this is; each draws every so many batches.
        """
        firsts = rank_share(range(0, count, self.batch_size), *share)
        with progress("sampling", len(firsts) * len(sampler.visits)) as on_step:
            for first in firsts:
                generators = self._generators(range(first, min(first + self.batch_size, count)))
                yield sampler(self.network, self.shape, generators, on_step=on_step)

    @torch.no_grad()
    def chain(self, sampler: Sampler) -> list[State]:
        """Return the states of the first image's reverse chain."""
        return list(sampler.chain(self.network, self.shape, self._generators([0])))

    def _generators(self, indices: Iterable[int]) -> list[torch.Generator]:
        return [stream_generator(self.seed, index, self.device) for index in indices]
