"""The options of a GeoD training, as its config names them, and what follows from several of them together."""

from typing import Literal, TypedDict

from common.errors import UserError
from lightning_modules.base import SampleOptions
from lightning_modules.generated_images import DistanceOptions
from lightning_modules.geod.guidance import GuidanceOptions
from lightning_modules.geod.inverse.depth_model import PretrainedOptions
from lightning_modules.geod.inverse.reconstruction_loss import InverseLossOptions
from lightning_modules.geod.inverse.renderer import InverseRendererOptions
from lightning_modules.geod.novel_views import NovelViewOptions
from networks.cameras import PoseOptions
from networks.gan.discriminator_input import DiscriminatorOptions
from networks.gan.generators3d.pigan import PiGANOptions
from networks.gan.generators3d.triplane import TriPlaneOptions
from networks.gan.lazy_regularization import AdamOptions


class GeoDSampleOptions(SampleOptions):
    """What `mode=sample` may ask of `GeoD`."""

    mesh: bool
    """Whether the surface of each sample is written as well, as PLY."""


class RegularizationOptions(TypedDict):
    """Lazy regularizations, each in a step of its own, every so many steps; R1 of every step is part of the loss.

    `r1_gamma`: weight of the discriminator's squared gradient norm on real images (times one half). `density_weight`:
    weight of the difference of density between points and points next to them.
    """

    r1_gamma: float
    r1_interval: int
    density_weight: float
    density_interval: int


class OptimizersOptions(TypedDict):
    """The optimizer of each network."""

    generator: AdamOptions
    discriminator: AdamOptions
    inverse_renderer: AdamOptions


class EvaluationOptions(DistanceOptions):
    """What the test generates and compares (geod §2.9).

    Of the `samples`, `images_per_pose`, at least 2, share a pose. `validation_samples`: images of a validation.
    `oracle`: a checkpoint of the oracle of rendered heads, or the folder of a depth model of transformers, or null.
    """

    images_per_pose: int
    validation_samples: int
    oracle: str | None


class GeoDOptions(TypedDict):
    """The constructor's arguments, described by `GeoD`."""

    image_size: int
    triplane: TriPlaneOptions | None
    pigan: PiGANOptions | None
    generator_init: str | None
    discriminator_init: str | None
    discriminator: DiscriminatorOptions
    geometry: Literal["unsup3d", "pretrained"]
    inverse_renderer: InverseRendererOptions
    inverse_loss: InverseLossOptions
    ir_init: str | None
    ir_stop_kimg: float
    pretrained: PretrainedOptions
    guidance: GuidanceOptions
    nvs: NovelViewOptions
    poses: PoseOptions
    regularization: RegularizationOptions
    optimizers: OptimizersOptions
    gradient_clip: float | None
    ema: float
    evaluation: EvaluationOptions
    seed: int


def check_options(options: GeoDOptions) -> None:
    """Check options that depend on each other, and those that have a minimum.

    Raises:
        UserError: naming the first option that is wrong.
    """
    if options["nvs"]["kind"] == "warp" and options["geometry"] != "unsup3d":
        raise UserError("nvs.kind is warp, which needs geometry=unsup3d: take reproject or none")
    lazy = options["regularization"]
    intervals = {
        "guidance.interval": options["guidance"]["interval"],
        "regularization.r1_interval": lazy["r1_interval"],
        "regularization.density_interval": lazy["density_interval"],
    }
    for name, value in intervals.items():
        if value < 1:
            raise UserError(f"{name} is {value}, should be at least 1: a weight of 0 turns a loss off")
    per_pose = options["evaluation"]["images_per_pose"]
    if per_pose < 2:
        raise UserError(f"evaluation.images_per_pose is {per_pose}, should be at least 2")


def uses_guidance(options: GeoDOptions) -> bool:
    """Return whether geometry predicted from images ever trains the generator."""
    guidance = options["guidance"]
    return max(guidance["gamma_start"], guidance["gamma_end"]) > 0 or options["nvs"]["kind"] == "warp"


def trains_inverse_renderer(options: GeoDOptions) -> bool:
    """Return whether an inverse renderer is trained too; one that is loaded stays as it is (geod §2.4)."""
    return options["geometry"] == "unsup3d" and options["ir_stop_kimg"] > 0 and not options["ir_init"]
