"""The options of a LinkGAN training, as its config names them, and what follows from several of them together."""

from typing import Literal, TypedDict

from common.errors import UserError
from common.ranges import (
    Fraction,
    FractionBelowOne,
    NonNegativeFloat,
    PositiveFloat,
    PositiveFraction,
    PositiveInt,
)
from lightning_modules.generated_images import DistanceOptions
from lightning_modules.linkgan.axes import LinkOptions, linked_axes
from lightning_modules.linkgan.generators import StyleGAN2Options
from lightning_modules.linkgan.regions import RegionMask
from lightning_modules.linkgan.segmenters import SegmenterOptions, check_classes
from networks.gan.lazy_regularization import AdamOptions


class LinkRegularizerOptions(TypedDict):
    """The link regularizer (§2.2 to §2.4), the same for all links.

    `lambda_in`: weight of what the other axes change inside the region (the paper's lambda_1). `lambda_out`: weight of
    what the linked axes change outside (lambda_2); without both the generator is trained on as it was. `alpha`:
    strength of the perturbation of w. `alpha_mode`: "absolute", or "relative" to the running deviation of each axis.
    `interval`: steps from one regularized step to the next. `lazy_gain`: whether the loss is multiplied by it.
    `batch_shrink`: one in so many samples is regularized. `adversarial_on_perturbed`: whether the discriminator sees
    the perturbed images. `anchor_detach`: whether the gradient through the unperturbed image is cut. `mask_mode`:
    classes are those of the unperturbed image ("anchor"), or outside of the region means outside of the perturbed
    image's, too ("union"). `links_per_step`: links drawn for each regularized step, null for all. `random_mask`: the
    control, in which the region lies anywhere, drawn for each step. `start_kimg`: thousand real images before it.
    """

    lambda_in: NonNegativeFloat
    lambda_out: NonNegativeFloat
    alpha: NonNegativeFloat
    alpha_mode: Literal["absolute", "relative"]
    interval: PositiveInt
    lazy_gain: bool
    batch_shrink: PositiveInt
    adversarial_on_perturbed: bool
    anchor_detach: bool
    mask_mode: Literal["anchor", "union"]
    links_per_step: PositiveInt | None
    random_mask: bool
    start_kimg: NonNegativeFloat


class StyleGAN2DiscriminatorOptions(TypedDict):
    """StyleGAN2's discriminator (§2.5): see `Discriminator`."""

    channel_base: PositiveInt
    channel_max: PositiveInt
    mbstd_group_size: PositiveInt
    conv_clamp: PositiveFloat | None


class RegularizationOptions(TypedDict):
    """StyleGAN2's lazy regularizations, each in a step of its own (§2.5); a weight of 0 turns one off.

    `r1_gamma`: weight of the discriminator's squared gradient norm on real images (times one half).
    `path_length_weight`, `path_length_decay`: see `PathLengthPenalty`; one in `path_length_shrink` samples has it.
    """

    r1_gamma: NonNegativeFloat
    r1_interval: PositiveInt
    path_length_weight: NonNegativeFloat
    path_length_interval: PositiveInt
    path_length_decay: PositiveFraction
    path_length_shrink: PositiveInt


class OptimizersOptions(TypedDict):
    """The optimizer of each network."""

    generator: AdamOptions
    discriminator: AdamOptions


class AverageOptions(TypedDict):
    """The generator's moving average: see `HalfLifeAverage`; `half_life` in images."""

    half_life: PositiveFloat
    ramp: PositiveFloat | None


class EvaluationOptions(DistanceOptions):
    """What a test generates and compares (§2.8).

    `validation_samples`: images of a validation. `batch_size`: images made at once. `truncation`: how far w is from its
    average, 1 for no truncation. `shift_axes`: the control, in which links are measured on axes so far from their own,
    as a fraction of w.
    """

    validation_samples: PositiveInt
    batch_size: PositiveInt
    truncation: Fraction
    shift_axes: FractionBelowOne


class LinkGANOptions(TypedDict):
    """The constructor's arguments, described by `LinkGAN`."""

    image_size: int
    channels: int
    stylegan2: StyleGAN2Options
    discriminator: StyleGAN2DiscriminatorOptions
    init_from: str | None
    continue_optimizers: bool
    links: dict[str, LinkOptions | None]
    link: LinkRegularizerOptions
    segmenter: SegmenterOptions | None
    flips: bool
    style_mixing: float
    regularization: RegularizationOptions
    optimizers: OptimizersOptions
    ema: AverageOptions
    evaluation: EvaluationOptions
    seed: int


def check_options(options: LinkGANOptions) -> None:
    """Check options that depend on each other.

    Raises:
        UserError: naming the first option that is wrong.
    """
    links = active_links(options)
    linked_axes(links, options["stylegan2"]["w_dim"])
    for name, link in links.items():
        key = f"model.links.{name}.region"
        region = RegionMask(link["region"], options["image_size"], key)
        if region.classes is not None:
            check_classes(region.classes, options["segmenter"], f"{key}.classes")
            _check_sides(region.classes, key, flips=options["flips"])
    per_step = options["link"]["links_per_step"]
    if per_step is not None and per_step > max(1, len(links)):
        raise UserError(f"model.link.links_per_step is {per_step}, there are {len(links)} links: null takes all")


def _check_sides(classes: list[str], key: str, *, flips: bool) -> None:
    """Refuse classes of one side where images are mirrored: a mirrored left eye is a right one."""
    sided = [name for name in classes if {"left", "right", "l", "r"} & set(name.lower().replace("-", "_").split("_"))]
    if flips and sided:
        raise UserError(
            f"{key}: class {sided[0]!r} has a side, and data.flip mirrors images: set data.flip=false, or take a box"
        )


def active_links(options: LinkGANOptions) -> dict[str, LinkOptions]:
    """Return the links; those that are null are left out."""
    return {name: link for name, link in options["links"].items() if link is not None}


def uses_links(options: LinkGANOptions) -> bool:
    """Return whether links are trained; without weight the baseline's training is left, step for step."""
    link = options["link"]
    return bool(active_links(options)) and max(link["lambda_in"], link["lambda_out"]) > 0
