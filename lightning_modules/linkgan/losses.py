"""The losses of each network's step, in the order in which the module takes them (§2.2 to §2.5)."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_modules.linkgan.generators import GeneratedImages
from lightning_modules.linkgan.latents import LatentBatch, LinkBatch, latents_of_layers
from lightning_modules.linkgan.networks import LinkGANNetworks
from lightning_modules.linkgan.options import LinkGANOptions
from lightning_modules.linkgan.regularizer import link_loss, link_terms, perturbation_strength
from networks.gan import losses
from networks.precision import single_precision


class GeneratorLoss(NamedTuple):
    """The generator's loss, its terms for the log, and the perturbed images that the discriminator is to see."""

    loss: Tensor
    terms: dict[str, Tensor]
    perturbed: Tensor | None


def generated(networks: LinkGANNetworks, latents: LatentBatch) -> tuple[Tensor, GeneratedImages]:
    """Return w [b, w] and the images of an adversarial pass, with style mixing and the noise of its latents."""
    w, ws = latents_of_layers(networks.generator, latents)
    return w, networks.generator.synthesize(ws, latents.noise)


def generator_loss(
    networks: LinkGANNetworks, options: LinkGANOptions, latents: LatentBatch, link: LinkBatch | None
) -> GeneratorLoss:
    """Return the generator's loss: adversarial and, in a regularized step, that of the links.

    Args:
        networks: the networks; the averages of w are updated.
        options: see `LinkGAN`.
        latents: of the adversarial pass.
        link: of the regularized passes, None if they are not due.
    """
    w, images = generated(networks, latents)
    networks.follow(w.detach())
    logits = networks.discriminator(images.image)
    if link is None:
        adversarial = losses.generator_loss(logits)
        return GeneratorLoss(adversarial, {"g_loss": adversarial.detach()}, None)
    o = options["link"]
    strength = perturbation_strength(o, networks.w_variance)
    found = link_terms(networks.generator, link, networks.axes(), networks.mask_of, o, strength=strength)
    shown = o["adversarial_on_perturbed"]
    if shown:
        logits = torch.cat([logits, networks.discriminator(found.perturbed)])
    adversarial = losses.generator_loss(logits)
    regularizer = link_loss(found, o, len(networks.regions))
    terms = {
        "g_loss": adversarial.detach(),
        "link_loss": regularizer.detach(),
        "link_inside": found.inside.detach(),
        "link_outside": found.outside.detach(),
    }
    return GeneratorLoss(adversarial + regularizer, terms, found.perturbed.detach() if shown else None)


def path_length_penalty(
    networks: LinkGANNetworks, latents: LatentBatch, directions: Float[Tensor, "b c h w"]
) -> Float[Tensor, ""]:
    """Return the path length penalty before its weight, in single precision; its running mean is updated."""
    with single_precision(directions):
        _, ws = latents_of_layers(networks.generator, latents)
        images = networks.generator.synthesize(ws, latents.noise)
        return networks.path_length(images.image, ws, directions)


def discriminator_loss(
    networks: LinkGANNetworks, real: Float[Tensor, "b c h w"], fake: Float[Tensor, "n c h w"]
) -> Float[Tensor, ""]:
    """Return the loss of real images and of generated ones, each averaged over its own number."""
    return losses.discriminator_loss(networks.discriminator(real), networks.discriminator(fake))


def r1_loss(networks: LinkGANNetworks, real: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
    """Return R1 of real images before its weight, in single precision."""
    # No leaf of the graph, of which torch's counter of operations takes no second derivatives.
    images = real.detach().requires_grad_().view_as(real)
    with single_precision(images):
        return losses.r1_penalty(networks.discriminator(images), images)
