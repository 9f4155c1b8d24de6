"""What a training step draws: by the global index of each sample, so the same on any number of processes (§2.3)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lightning_modules.linkgan.generators import LinkableGenerator, broadcast
from networks.gan.latents import batch_generator
from networks.gan.stylegan2.style_mixing import draw_cutoffs, mix_styles
from networks.seeds import stream_seed

GENERATOR, DISCRIMINATOR, PATH_LENGTH, LINK = range(4)
_PURPOSES = 4


class SampleDraws:
    """Random numbers of this process's samples of one pass; those of a sample depend on its global index alone.

    Args:
        seed: the run's seed.
        batch: batches that training has seen.
        purpose: which of a batch's passes this is.
        indices: global indices of this process's samples.
        device: where the numbers are used; they are drawn on the CPU.
    """

    def __init__(self, seed: int, batch: int, purpose: int, indices: Sequence[int], device: torch.device) -> None:
        own = stream_seed(seed, batch) * _PURPOSES + purpose
        self.generators = [torch.Generator().manual_seed(stream_seed(own, 1 + index)) for index in indices]
        # What is drawn once for all samples, the same on every process.
        self.shared = batch_generator(seed, batch, purpose, purposes=_PURPOSES)
        self.device = device

    def normal(self, *shape: int) -> Tensor:
        """Return normal numbers [b, *shape]."""
        return torch.stack([torch.randn(shape, generator=own) for own in self.generators]).to(self.device)

    def noise(self, sides: Sequence[int]) -> list[Float[Tensor, "b 1 h w"]]:
        """Return the noise of every convolution."""
        return [self.normal(1, side, side) for side in sides]

    def cutoffs(self, layers: int, probability: float) -> Int[Tensor, " b"]:
        """Return the first layer of each sample that takes another latent."""
        return torch.cat([draw_cutoffs(1, layers, probability, own) for own in self.generators])


class LatentBatch(NamedTuple):
    """Input of a generator: z [b, z], other latents [b, z] for the layers from `cutoffs` [b] on, and noise."""

    z: Tensor
    other: Tensor
    cutoffs: Tensor
    noise: list[Tensor]


def draw_latents(draws: SampleDraws, generator: LinkableGenerator, style_mixing: float) -> LatentBatch:
    """Return the latents of an adversarial pass or of a path length.

    Args:
        draws: what draws.
        generator: the generator that they are for.
        style_mixing: probability that a sample is mixed.
    """
    z, other = draws.normal(generator.z_dim), draws.normal(generator.z_dim)
    return LatentBatch(z, other, draws.cutoffs(generator.num_ws, style_mixing), draws.noise(generator.noise_sides))


def latents_of_layers(
    generator: LinkableGenerator, latents: LatentBatch, c: Tensor | None = None
) -> tuple[Float[Tensor, "b w"], Float[Tensor, "b n w"]]:
    """Return w, and the latents of every layer, mixed where the cutoffs say so."""
    w = generator.to_w(latents.z, c)
    ws = broadcast(w, generator.num_ws)
    if bool((latents.cutoffs < generator.num_ws).any()):
        ws = mix_styles(ws, broadcast(generator.to_w(latents.other, c), generator.num_ws), latents.cutoffs)
    return w, ws


class LinkBatch(NamedTuple):
    """Input of the regularized passes: z [b, z], noise that they share, and perturbations p [b, k, w] of k links.

    `offsets` are rows and columns by which the control's region is moved.
    """

    z: Tensor
    noise: list[Tensor]
    perturbations: Tensor
    links: list[str]
    offsets: tuple[int, int]


def draw_link_batch(
    draws: SampleDraws, generator: LinkableGenerator, links: Sequence[str], per_step: int | None, side: int
) -> LinkBatch:
    """Return what a regularized step draws.

    Args:
        draws: what draws.
        generator: the generator that it is for.
        links: names of all links.
        per_step: how many of them are drawn, None for all.
        side: side of the images.
    """
    order = torch.randperm(len(links), generator=draws.shared).tolist()
    offsets = torch.randint(side, (2,), generator=draws.shared).tolist()
    chosen = sorted(order[: per_step or len(links)])
    return LinkBatch(
        draws.normal(generator.z_dim),
        draws.noise(generator.noise_sides),
        draws.normal(len(links), generator.w_dim)[:, chosen],
        [links[k] for k in chosen],
        (offsets[0], offsets[1]),
    )
