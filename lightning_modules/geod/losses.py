"""The losses of each network's step, in the order in which the module takes them."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from lightning_modules.geod.guidance import GuidanceOptions, gamma, guidance_loss, is_on, resize_depth
from lightning_modules.geod.inverse_renderer import InverseRenderer
from lightning_modules.geod.networks import GeoDNetworks
from lightning_modules.geod.novel_views import novel_view_loss
from lightning_modules.geod.options import GeoDOptions
from lightning_modules.geod.players import density_variation, r1_penalty
from lightning_modules.geod.poses import focal_in_pixels
from lightning_modules.geod.pretrained import PretrainedGeometry
from lightning_modules.geod.sampling import LatentBatch
from networks.precision import single_precision
from networks.volume_rendering import Rendering


def is_due(networks: GeoDNetworks, interval: int) -> bool:
    """Return whether a loss of every so many batches is part of this one."""
    return int(networks.batches_seen) % interval == 0


def guidance(
    reader: InverseRenderer | PretrainedGeometry,
    rendering: Rendering,
    camera: Float[Tensor, "b 25"],
    options: GuidanceOptions,
) -> Float[Tensor, ""]:
    """Return how far rendered geometry is from that predicted from the rendered images (spec, section 2.5).

    Args:
        reader: what predicts geometry from images.
        rendering: what the generator rendered.
        camera: its cameras.
        options: see `GuidanceOptions`.
    """
    image = rendering.image.detach() if options["detach_image"] else rendering.image
    shape = reader.shape(image)
    size = shape.valid.shape[-1]
    depth, focal = resize_depth(rendering.depth, size), focal_in_pixels(camera, size)
    weight, least = resize_depth(rendering.weight, size), options["least_weight"]
    kind, shuffle = options["kind"], options["shuffle"]
    return guidance_loss(depth, focal, shape, weight=weight, least_weight=least, kind=kind, shuffle=shuffle)


def generator_loss(
    networks: GeoDNetworks, options: GeoDOptions, latents: LatentBatch
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Return the generator's loss, of which guidance and novel views are part when it is their time, and its terms."""
    seen = int(networks.images_seen)
    weight = gamma(options["guidance"], seen)
    generator, terms = networks.generator, dict[str, Tensor]()
    field = generator.field(latents.z, latents.camera)
    rendering = generator.render(field, latents.camera, jitter=True)
    judge = networks.judge
    logits = judge(networks.discriminator, judge.of_rendered(rendering), latents.camera, seen)
    adversarial = functional.softplus(-logits).mean()
    loss = adversarial
    if weight > 0 and is_due(networks, options["guidance"]["interval"]):
        reader = networks.reader
        assert reader is not None
        taught = guidance(reader, rendering, latents.camera, options["guidance"])
        loss = loss + weight * taught
        terms["guidance"] = taught.detach()
    nvs = options["nvs"]
    if nvs["kind"] != "none" and is_on(options["guidance"], seen):
        second = generator.render(field, latents.other, jitter=True)
        views = (rendering, latents.camera, second, latents.other)
        turned = novel_view_loss(nvs["kind"], *views, networks.inverse_renderer, generator.reach)
        loss = loss + nvs["weight"] * turned
        terms["novel_view"] = turned.detach()
    return loss, terms | {"g_loss": adversarial.detach(), "gamma": torch.tensor(weight)}


def density_loss(networks: GeoDNetworks, options: GeoDOptions, latents: LatentBatch) -> Float[Tensor, ""] | None:
    """Return the weighted variation of density, None when its step is not due."""
    lazy = options["regularisation"]
    if not lazy["density_weight"] or not is_due(networks, lazy["density_interval"]):
        return None
    variation = density_variation(networks.generator, latents.z, latents.camera)
    return lazy["density_weight"] * lazy["density_interval"] * variation


def discriminator_loss(
    networks: GeoDNetworks, batch: Mapping[str, Any], rendering: Rendering, camera: Float[Tensor, "b 25"]
) -> Float[Tensor, ""]:
    """Return the loss of real images and of generated ones, which were rendered with `camera`."""
    judge, seen = networks.judge, int(networks.images_seen)
    generated = judge(networks.discriminator, judge.of_rendered(rendering), camera, seen)
    real = judge(networks.discriminator, judge.of_real(batch["image"]), batch.get("camera"), seen)
    return functional.softplus(generated).mean() + functional.softplus(-real).mean()


def r1_loss(networks: GeoDNetworks, batch: Mapping[str, Any]) -> Float[Tensor, ""]:
    """Return R1 of real images, before its weight."""
    judge, seen = networks.judge, int(networks.images_seen)
    images = judge.of_real(batch["image"]).detach().requires_grad_()
    with single_precision(images):
        return r1_penalty(judge(networks.discriminator, images, batch.get("camera"), seen), images)
