"""The losses of each network's step, in the order in which the module takes them."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_modules.geod.guidance import gamma, guidance_of_rendering, is_on
from lightning_modules.geod.latents import LatentBatch
from lightning_modules.geod.networks import GeoDNetworks
from lightning_modules.geod.novel_views import novel_view_loss
from lightning_modules.geod.options import GeoDOptions
from networks.gan import losses
from networks.gan.generators3d.volume_rendering import Rendering
from networks.gan.lazy_regularization import is_due, lazy_weight
from networks.precision import single_precision


def generator_loss(
    networks: GeoDNetworks, options: GeoDOptions, latents: LatentBatch
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Return the generator's loss, of which guidance and novel views are part when it is their time, and its terms."""
    images_seen = int(networks.images_seen)
    weight = gamma(options["guidance"], images_seen)
    generator, terms = networks.generator, dict[str, Tensor]()
    field = generator.field(latents.z, latents.camera, latents.synthesis_noise(generator.noise_sides))
    rendering = generator.render(field, latents.camera, jitter=latents.noise.part("rendering"))
    prepare = networks.discriminator_input
    logits = prepare(networks.discriminator, prepare.of_rendered(rendering), latents.camera, images_seen)
    adversarial = losses.generator_loss(logits)
    loss = adversarial
    if weight > 0 and is_due(int(networks.batches_seen), options["guidance"]["interval"]):
        predictor = networks.predictor
        assert predictor is not None
        guidance = guidance_of_rendering(predictor, rendering, latents.camera, options["guidance"])
        loss = loss + weight * guidance
        terms["guidance"] = guidance.detach()
    nvs = options["nvs"]
    if nvs["kind"] != "none" and is_on(options["guidance"], images_seen):
        second = generator.render(field, latents.other, jitter=latents.noise.part("other_rendering"))
        views = (rendering, latents.camera, second, latents.other)
        turned = novel_view_loss(nvs["kind"], *views, networks.inverse_renderer, generator.ray_length)
        loss = loss + nvs["weight"] * turned
        terms["novel_view"] = turned.detach()
    return loss, terms | {"g_loss": adversarial.detach(), "gamma": torch.tensor(weight)}


def density_loss(networks: GeoDNetworks, options: GeoDOptions, latents: LatentBatch) -> Float[Tensor, ""] | None:
    """Return the weighted variation of density, None if it is not due in this step."""
    lazy = options["regularization"]
    if not lazy["density_weight"] or not is_due(int(networks.batches_seen), lazy["density_interval"]):
        return None
    noise = latents.noise.part("density")
    variation = losses.density_variation(networks.generator, latents.z, latents.camera, noise)
    return lazy_weight(lazy["density_weight"], lazy["density_interval"]) * variation


def discriminator_loss(
    networks: GeoDNetworks, batch: Mapping[str, Any], rendering: Rendering, camera: Float[Tensor, "b 25"]
) -> Float[Tensor, ""]:
    """Return the loss of real images and of generated ones, which were rendered with `camera`."""
    prepare, images_seen = networks.discriminator_input, int(networks.images_seen)
    generated = prepare(networks.discriminator, prepare.of_rendered(rendering), camera, images_seen)
    real = prepare(networks.discriminator, prepare.of_real(batch["image"]), batch.get("camera"), images_seen)
    return losses.discriminator_loss(real, generated)


def r1_loss(networks: GeoDNetworks, batch: Mapping[str, Any]) -> Float[Tensor, ""]:
    """Return R1 of real images, before its weight."""
    prepare, images_seen = networks.discriminator_input, int(networks.images_seen)
    images = prepare.of_real(batch["image"]).detach().requires_grad_()
    with single_precision(images):
        logits = prepare(networks.discriminator, images, batch.get("camera"), images_seen)
        return losses.r1_penalty(logits, images)
