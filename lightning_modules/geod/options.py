"""The options of a GeoD training, as its config names them, and what follows from several of them together."""

from typing import Annotated, Literal, TypedDict

from common.errors import UserError
from common.ranges import NonNegativeFloat, PositiveInt, Range
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

    r1_gamma: NonNegativeFloat
    r1_interval: PositiveInt
    density_weight: NonNegativeFloat
    density_interval: PositiveInt


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

    images_per_pose: Annotated[int, Range(low=2)]
    validation_samples: PositiveInt
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
    """Raise UserError for options that do not go together."""
    if options["nvs"]["kind"] == "warp" and options["geometry"] != "unsup3d":
        raise UserError("nvs.kind is warp, which needs geometry=unsup3d: take reproject or none")


def uses_guidance(options: GeoDOptions) -> bool:
    """Return whether geometry predicted from images ever trains the generator."""
    guidance = options["guidance"]
    return max(guidance["gamma_start"], guidance["gamma_end"]) > 0 or options["nvs"]["kind"] == "warp"


def trains_inverse_renderer(options: GeoDOptions) -> bool:
    """Return whether an inverse renderer is trained too; one that is loaded stays as it is (geod §2.4)."""
    return options["geometry"] == "unsup3d" and options["ir_stop_kimg"] > 0 and not options["ir_init"]
