"""A step of each player: what it learns from, and in which order its losses are taken."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from lightning_modules.geod.guidance import gamma, guidance_loss, is_on, resize_depth
from lightning_modules.geod.inverse_loss import inverse_loss
from lightning_modules.geod.novel_views import novel_view_loss
from lightning_modules.geod.players import density_variation, r1_penalty
from lightning_modules.geod.poses import focal_in_pixels
from networks.precision import single_precision
from networks.volume_rendering import Rendering

if TYPE_CHECKING:
    from lightning_modules.geod.module import Draw, GeoD


def _step(module: "GeoD", loss: Tensor, optimizer: Any) -> None:
    optimizer.zero_grad()
    module.manual_backward(loss)
    if module.hparams.gradient_clip is not None:
        module.clip_gradients(optimizer, module.hparams.gradient_clip, "norm")
    optimizer.step()


def _due(module: "GeoD", interval: int) -> bool:
    return int(module.batches_seen) % interval == 0


def inverse_renderer_step(module: "GeoD", batch: Mapping[str, Any], optimizer: Any) -> None:
    """Let the inverse renderer learn from real images, and from nothing else."""
    assert module.inverse_renderer is not None
    with module.toggled_optimizer(optimizer):
        reading = module.inverse_renderer(batch["image"])
        loss = inverse_loss(reading, module.hparams.inverse_loss, module.features)
        optimizer.zero_grad()
        module.manual_backward(loss)
        optimizer.step()
    module.latest["ir_loss"] = loss.detach()


def guidance(module: "GeoD", rendering: Rendering, camera: Float[Tensor, "b 25"]) -> Float[Tensor, ""]:
    """Return how far rendered geometry is from what is read from the rendered images (spec, section 2.5)."""
    options = module.hparams.guidance
    image = rendering.image.detach() if options["detach_image"] else rendering.image
    shape = module.reader.shape(image)
    size = shape.valid.shape[-1]
    depth, focal = resize_depth(rendering.depth, size), focal_in_pixels(camera, size)
    weight, least = resize_depth(rendering.weight, size), options["least_weight"]
    kind, shuffle = options["kind"], options["shuffle"]
    return guidance_loss(depth, focal, shape, weight=weight, least_weight=least, kind=kind, shuffle=shuffle)


def generator_step(module: "GeoD", draw: "Draw", optimizer: Any) -> None:
    """Let the generator fool the discriminator and learn geometry; the density has a step of its own."""
    h, seen = module.hparams, int(module.images_seen)
    weight = gamma(h.guidance, seen)
    lazy = h.regularisation
    with module.toggled_optimizer(optimizer):
        field = module.generator.field(draw.z, draw.camera)
        rendering = module.generator.render(field, draw.camera, jitter=True)
        logits = module.judge(module.discriminator, module.judge.of_rendered(rendering), draw.camera, seen)
        fooled = functional.softplus(-logits).mean()
        loss = fooled
        if weight > 0 and _due(module, h.guidance["interval"]):
            taught = guidance(module, rendering, draw.camera)
            loss = loss + weight * taught
            module.latest["guidance"] = taught.detach()
        if h.nvs["kind"] != "none" and is_on(h.guidance, seen):
            second = module.generator.render(field, draw.other, jitter=True)
            views = (rendering, draw.camera, second, draw.other)
            turned = novel_view_loss(h.nvs["kind"], *views, module.inverse_renderer, module.generator.reach)
            loss = loss + h.nvs["weight"] * turned
            module.latest["novel_view"] = turned.detach()
        _step(module, loss, optimizer)
        if lazy["density_weight"] and _due(module, lazy["density_interval"]):
            rough = density_variation(module.generator, draw.z, draw.camera)
            _step(module, lazy["density_weight"] * lazy["density_interval"] * rough, optimizer)
    module.latest |= {"g_loss": fooled.detach(), "gamma": torch.tensor(weight)}


def discriminator_step(module: "GeoD", batch: Mapping[str, Any], draw: "Draw", optimizer: Any) -> None:
    """Let the discriminator tell real from generated; R1 has a step of its own unless it is due in every one."""
    seen, lazy, camera = int(module.images_seen), module.hparams.regularisation, batch.get("camera")
    with torch.no_grad():
        rendering = module.generator(draw.z, draw.camera, jitter=True, noise="random")
    weight, interval = lazy["r1_gamma"] / 2 * lazy["r1_interval"], lazy["r1_interval"]
    is_due = weight > 0 and _due(module, interval)

    def penalty() -> Tensor:
        images = module.judge.of_real(batch["image"]).detach().requires_grad_()
        with single_precision(images):
            found = r1_penalty(module.judge(module.discriminator, images, camera, seen), images)
        module.latest["r1"] = found.detach()
        return weight * found

    with module.toggled_optimizer(optimizer):
        generated = module.judge(module.discriminator, module.judge.of_rendered(rendering), draw.camera, seen)
        real = module.judge(module.discriminator, module.judge.of_real(batch["image"]), camera, seen)
        loss = functional.softplus(generated).mean() + functional.softplus(-real).mean()
        _step(module, loss + penalty() if is_due and interval == 1 else loss, optimizer)
        if is_due and interval > 1:
            _step(module, penalty(), optimizer)
    module.latest["d_loss"] = loss.detach()
