"""What a training step draws: by the position of each sample in the global batch, on any number of processes (§2.3)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_modules.linkgan.generators import LinkableGenerator, broadcast
from lightning_modules.linkgan.networks import LinkGANNetworks
from lightning_modules.linkgan.options import LinkGANOptions, uses_links
from networks.gan.lazy_regularization import is_due
from networks.gan.stylegan2.path_length import shrunk_batch
from networks.gan.stylegan2.style_mixing import mix_styles
from networks.noise import BatchNoise


class LatentBatch(NamedTuple):
    """Input of a generator: z [b, z], other latents [b, z] for the layers from `cutoffs` [b] on, and noise."""

    z: Tensor
    other: Tensor
    cutoffs: Tensor
    noise: list[Tensor]


def _layer_noise(noise: BatchNoise, sides: Sequence[int], count: int, device: torch.device) -> list[Tensor]:
    return [noise.normal(f"layer{k}", (count, 1, side, side), device=device) for k, side in enumerate(sides)]


def draw_latents(
    noise: BatchNoise, generator: LinkableGenerator, count: int, style_mixing: float, device: torch.device
) -> LatentBatch:
    """Return the latents of an adversarial pass or of a path length.

    Args:
        noise: of the pass.
        generator: the generator that they are for.
        count: number of this process's samples.
        style_mixing: probability that a sample is mixed, each by itself.
        device: where the generator is.
    """
    layers = generator.num_ws
    is_mixed = noise.uniform("is_mixed", (count,)) < style_mixing
    first = noise.integers("cutoff", 1, max(2, layers), (count,))
    return LatentBatch(
        noise.normal("z", (count, generator.z_dim), device=device),
        noise.normal("other", (count, generator.z_dim), device=device),
        torch.where(is_mixed, first, layers),
        _layer_noise(noise, generator.noise_sides, count, device),
    )


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
    """Input of the regularized passes: z [b, z], noise that they share, and perturbations p [b, w] of each link.

    `offset` is by how many rows and columns the control's region is moved.
    """

    z: Tensor
    noise: list[Tensor]
    perturbations: dict[str, Tensor]
    offset: tuple[int, int]


def draw_link_batch(
    noise: BatchNoise,
    generator: LinkableGenerator,
    count: int,
    links: Sequence[str],
    side: int,
    device: torch.device,
) -> LinkBatch:
    """Return what a regularized step draws.

    Args:
        noise: of the links.
        generator: the generator that it is for.
        count: number of this process's samples.
        links: names of the links of this step, see `drawn_links`.
        side: side of the images.
        device: where the generator is.
    """
    offset = torch.randint(side, (2,), generator=noise.shared("offset")).tolist()
    return LinkBatch(
        noise.normal("z", (count, generator.z_dim), device=device),
        _layer_noise(noise, generator.noise_sides, count, device),
        {name: noise.normal(f"perturbation/{name}", (count, generator.w_dim), device=device) for name in links},
        (offset[0], offset[1]),
    )


def drawn_links(noise: BatchNoise, links: Sequence[str], count: int | None) -> list[str]:
    """Return the links of a regularized step: `count` of them, drawn alike on all processes; None for all."""
    order = torch.randperm(len(links), generator=noise.shared("links")).tolist()
    return [links[k] for k in sorted(order[: count or len(links)])]


def pass_noise(networks: LinkGANNetworks, options: LinkGANOptions, name: str) -> BatchNoise:
    """Return what draws the numbers of one of this batch's passes: "generator", "discriminator" and so on."""
    return BatchNoise(options["seed"], int(networks.batches_seen)).part(name)


def pass_latents(networks: LinkGANNetworks, options: LinkGANOptions, name: str, count: int) -> LatentBatch:
    """Return the latents of one of this batch's passes with style mixing, `count` samples for this process."""
    noise = pass_noise(networks, options, name)
    return draw_latents(noise, networks.generator, count, options["style_mixing"], networks.device)


def due_link_batch(networks: LinkGANNetworks, options: LinkGANOptions, count: int) -> LinkBatch | None:
    """Return what this batch's regularized step draws, None if none is due (§2.4).

    Args:
        networks: the networks, whose counters say which step it is, so that a resumed training keeps the phase.
        options: see `LinkGAN`.
        count: real images of this process's batch.
    """
    link = options["link"]
    is_on = uses_links(options) and int(networks.images_seen) >= 1000 * link["start_kimg"]
    if not is_on or not is_due(int(networks.batches_seen), link["interval"]):
        return None
    noise, own = pass_noise(networks, options, "link"), len(shrunk_batch(count, link["batch_shrink"]))
    names = drawn_links(noise, list(networks.regions), link["links_per_step"])
    return draw_link_batch(noise, networks.generator, own, names, options["image_size"], networks.device)
