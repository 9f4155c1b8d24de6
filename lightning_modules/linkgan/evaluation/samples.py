"""Images by index, plain and with a group of axes drawn anew: image k depends on the seed and on k alone (§2.8)."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lightning_modules.linkgan.editing import edit_latents
from lightning_modules.linkgan.generators import LinkableGenerator, broadcast
from networks.gan.latents import sample_latents
from networks.seeds import stream_seed


def resampled(w: Float[Tensor, "b w"], other: Float[Tensor, "b w"], axes: Bool[Tensor, " w"]) -> Float[Tensor, "b w"]:
    """Return w with a group of axes from another w."""
    return edit_latents(w[:, None], other[:, None], axes)[:, 0]


class SampledLatents(NamedTuple):
    """Of some samples: w [b, w], another w of the same sample, and normal numbers [b, w] to perturb it with."""

    indices: list[int]
    w: Tensor
    other: Tensor
    direction: Tensor


class Samples:
    """The samples of a seed, by index; all images have the generator's constant noise.

    Args:
        generator: the generator, in eval mode.
        seed: seed of the latents.
        truncation: how far w is from its average; both w of a sample alike.
        batch: images made at once.
        device: where the generator is.
    """

    def __init__(
        self, generator: LinkableGenerator, seed: int, *, truncation: float, batch: int, device: torch.device
    ) -> None:
        self.generator, self.seed, self.truncation = generator, seed, truncation
        self.batch, self.device = batch, device

    @torch.no_grad()
    def latents(self, indices: Sequence[int]) -> Iterator[SampledLatents]:
        """Yield the latents of samples, a batch at a time."""
        sizes = (self.generator.z_dim, self.generator.z_dim, self.generator.w_dim)
        drawn = [sample_latents(stream_seed(self.seed, k), indices, size) for k, size in enumerate(sizes)]
        for first in range(0, len(indices), self.batch):
            part = slice(first, first + self.batch)
            z, other, direction = (numbers[part].to(self.device) for numbers in drawn)
            w, second = (self.generator.to_w(one, truncation=self.truncation) for one in (z, other))
            yield SampledLatents(list(indices[part]), w, second, direction)

    @torch.no_grad()
    def images_of(self, w: Float[Tensor, "b w"]) -> Float[Tensor, "b c h w"]:
        """Return the images of latents."""
        return self.generator.synthesize(broadcast(w, self.generator.num_ws), "const").image

    def images(self, indices: Sequence[int]) -> Iterator[Float[Tensor, "b c h w"]]:
        """Yield the images of samples in -1..1, a batch at a time."""
        for latents in self.latents(indices):
            yield self.images_of(latents.w)
