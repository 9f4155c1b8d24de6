"""The passes of one step of all networks without random numbers, to count what they cost."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lightning_modules.linkgan.latents import LatentBatch, LinkBatch
from lightning_modules.linkgan.losses import discriminator_loss, generator_loss, path_length_penalty, r1_loss
from lightning_modules.linkgan.networks import LinkGANNetworks
from lightning_modules.linkgan.options import LinkGANOptions, uses_links
from networks.gan.stylegan2.path_length import shrunk_batch


def _latents(networks: LinkGANNetworks, images: Tensor, count: int) -> LatentBatch:
    generator = networks.generator
    z = images.new_zeros(count, generator.z_dim)
    noise = [images.new_zeros(count, 1, side, side) for side in generator.noise_sides]
    # No style mixing: which samples are mixed is a matter of numbers, which tensors without data have none of.
    return LatentBatch(z, z, torch.full((count,), generator.num_ws, device="cpu"), noise)


def _links(networks: LinkGANNetworks, options: LinkGANOptions, images: Tensor) -> LinkBatch | None:
    if not uses_links(options):
        return None
    link = options["link"]
    z, _, _, noise = _latents(networks, images, len(shrunk_batch(len(images), link["batch_shrink"])))
    names = list(networks.regions)[: link["links_per_step"]]
    moved: Mapping[str, Tensor] = {name: z.new_zeros(len(z), networks.generator.w_dim) for name in names}
    return LinkBatch(z, noise, dict(moved), (0, 0))


def whole_step(networks: LinkGANNetworks, options: LinkGANOptions, real: Tensor) -> None:
    """Do the forward and backward passes of a step in which links, path length and R1 are all due.

    Args:
        networks: the networks, in training mode.
        options: see `LinkGAN`.
        real: real images [b, c, h, w], of which the shape counts.
    """
    lazy, generator = options["regularization"], networks.get_submodule("generator")
    discriminator: nn.Module = networks.discriminator
    discriminator.requires_grad_(False)
    found = generator_loss(networks, options, _latents(networks, real, len(real)), _links(networks, options, real))
    found.loss.backward()
    if lazy["path_length_weight"]:
        own = len(shrunk_batch(len(real), lazy["path_length_shrink"]))
        path_length_penalty(networks, _latents(networks, real, own), torch.zeros_like(real[:own])).backward()
    generator.requires_grad_(False)
    discriminator.requires_grad_(True)
    latents = _latents(networks, real, len(real))
    fake = networks.generator.synthesize(
        networks.generator.to_w(latents.z)[:, None].expand(-1, networks.generator.num_ws, -1), latents.noise
    ).image
    fake = fake if found.perturbed is None else torch.cat([fake, found.perturbed])
    discriminator_loss(networks, real, fake).backward()
    if lazy["r1_gamma"]:
        r1_loss(networks, real).backward()
    generator.requires_grad_(True)
