"""The link regularizer: other axes must not touch a region, its own axes must not touch the rest (§2.2, §2.3)."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from lightning_modules.linkgan.generators import GeneratedImages, LinkableGenerator, broadcast
from lightning_modules.linkgan.latents import LinkBatch
from lightning_modules.linkgan.options import LinkRegularizerOptions
from networks.precision import single_precision

MaskOf = Callable[[str, Float[Tensor, "b c h w"]], Bool[Tensor, "b 1 h w"]]
"""The mask of a link's region in images."""


class LinkPasses(NamedTuple):
    """One link's images: with all but its axes moved, and with its axes moved (the paper's x_2 and x_1)."""

    others_moved: GeneratedImages
    linked_moved: GeneratedImages


class LinkTerms(NamedTuple):
    """The losses of a regularized step, unweighted and summed over links, and all perturbed images [n, c, h, w]."""

    inside: Tensor
    outside: Tensor
    perturbed: Tensor


def masked_mean(difference: Float[Tensor, "b c h w"], mask: Bool[Tensor, "b 1 h w"]) -> Float[Tensor, " b"]:
    """Return each sample's mean square over the pixels of its mask and all channels; 0 for an empty mask."""
    with single_precision(difference):
        inside = mask.float()
        squares = (difference.float().square().mean(dim=1, keepdim=True) * inside).sum(dim=(1, 2, 3))
        return squares / inside.sum(dim=(1, 2, 3)).clamp_min(1)


def change(one: GeneratedImages, other: GeneratedImages, mask: Bool[Tensor, "b 1 h w"]) -> Float[Tensor, ""]:
    """Return the mean square change inside a mask, of images and, if there are any, of those before super-resolution.

    Args:
        one: images.
        other: images of the same samples.
        mask: at the size of the images; it is resized to that of the others.
    """
    found = masked_mean(one.image - other.image, mask).mean()
    if one.raw is not None and other.raw is not None:
        side = one.raw.shape[-2:]
        raw_mask = functional.interpolate(mask.float(), side, mode="area") >= 0.5
        found = found + masked_mean(one.raw - other.raw, raw_mask).mean()
    return found


def perturbation_strength(options: LinkRegularizerOptions, variance: Float[Tensor, " w"]) -> Tensor | float:
    """Return alpha or, relative to the running variance of each axis of w, alpha for each axis."""
    return options["alpha"] * variance.sqrt() if options["alpha_mode"] == "relative" else options["alpha"]


def perturbed(
    w: Float[Tensor, "b w"], direction: Float[Tensor, "b w"], axes: Bool[Tensor, " w"], strength: Tensor | float
) -> Float[Tensor, "b w"]:
    """Return w, moved along the axes of a group alone.

    Args:
        w: latents.
        direction: normal numbers.
        axes: the group.
        strength: alpha, or alpha for each axis.
    """
    return w + strength * direction * axes.to(w.device)


def link_terms(
    generator: LinkableGenerator,
    batch: LinkBatch,
    axes: Mapping[str, Bool[Tensor, " w"]],
    mask_of: MaskOf,
    options: LinkRegularizerOptions,
    *,
    strength: Tensor | float,
    c: Tensor | None = None,
) -> LinkTerms:
    """Return the losses of a regularized step.

    The mapping runs once; it is w that is perturbed, the same for all layers, and all passes share their noise.

    Args:
        generator: the generator.
        batch: see `LinkBatch`.
        axes: the axes of each link.
        mask_of: the masks.
        options: see `LinkRegularizerOptions`.
        strength: see `perturbation_strength`.
        c: the condition, the same in all passes.
    """

    def images_of(latent: Tensor) -> GeneratedImages:
        return generator.synthesize(broadcast(latent, generator.num_ws), batch.noise, c)

    w = generator.to_w(batch.z, c)
    anchor = images_of(w)
    if options["anchor_detach"]:
        anchor = GeneratedImages(*(None if part is None else part.detach() for part in anchor))  # type: ignore[arg-type]
    inside, outside, images = w.new_zeros(()), w.new_zeros(()), list[Tensor]()
    for name, direction in batch.perturbations.items():
        own = axes[name]
        passes = LinkPasses(
            images_of(perturbed(w, direction, ~own, strength)), images_of(perturbed(w, direction, own, strength))
        )
        mask = mask_of(name, anchor.image)
        outer = ~mask
        if options["mask_mode"] == "union":
            outer = outer & ~mask_of(name, passes.linked_moved.image)
        if options["random_mask"]:
            mask, outer = (part.roll(batch.offset, dims=(2, 3)) for part in (mask, outer))
        inside = inside + change(passes.others_moved, anchor, mask)
        outside = outside + change(passes.linked_moved, anchor, outer)
        images += [passes.linked_moved.image, passes.others_moved.image]
    return LinkTerms(inside, outside, torch.cat(images))


def link_loss(terms: LinkTerms, options: LinkRegularizerOptions, links: int) -> Float[Tensor, ""]:
    """Return the weighted loss of a regularized step: with the lazy gain, and for links that were not drawn (§2.4).

    Args:
        terms: see `LinkTerms`.
        options: see `LinkRegularizerOptions`.
        links: number of all links.
    """
    loss = options["lambda_in"] * terms.inside + options["lambda_out"] * terms.outside
    drawn = options["links_per_step"] or links
    return loss * (links / drawn) * (options["interval"] if options["lazy_gain"] else 1)
