"""The options of the constructors of Cones and of the tuning of unions, as types."""

from typing import Literal, TypedDict

from common.ranges import NonNegativeFloat, PositiveFloat, PositiveInt
from lightning_modules.base import SampleOptions
from lightning_modules.cones.adaptation import Adaptation
from lightning_modules.cones.base_model import SmallModelOptions
from lightning_modules.cones.concept_masks import Update
from lightning_modules.cones.evaluation import EvaluationOptions
from lightning_modules.cones.neuron_scope import Scope
from lightning_modules.cones.selection import SelectionOptions
from lightning_modules.optimization import OptimizerOptions


class BaseOptions(TypedDict):
    """The base: `weights` is a checkpoint of cones_pretrain, `small` are the options that it was trained with."""

    weights: str | None
    small: SmallModelOptions


class PriorOptions(TypedDict):
    """The prior's half of the loss: `weight` is lambda; a step sees `batch_size` of the class `images`."""

    weight: NonNegativeFloat
    images: PositiveInt
    batch_size: PositiveInt


class SamplerOptions(TypedDict):
    """How images are drawn: the guidance weight, DDIM steps, and images drawn at a time."""

    guidance: NonNegativeFloat
    steps: PositiveInt
    batch_size: PositiveInt


class ConesOptions(TypedDict):
    """The constructor's options, see `Cones`."""

    image_size: int
    base: BaseOptions
    adapt: Adaptation
    scope: Scope
    update: Update
    rho: PositiveFloat | Literal["auto"]
    rho_target: PositiveFloat
    selection: SelectionOptions
    prior: PriorOptions
    optimizer: OptimizerOptions
    sampler: SamplerOptions
    evaluation: EvaluationOptions
    seed: int


class ConceptSampleOptions(SampleOptions):
    """What `mode=sample` may ask of a subject's model."""

    prompt: str
    """The prompt of all images."""
    concepts: list[str]
    """Cluster files or run folders whose union is shut; none: the run's own cluster."""
    slots: int | None
    """Objects side by side; null: one for every "and" in the prompt, and one more."""
    fraction: float | None
    """Another share of all candidates, cut from the stored statistic; null: the one that was chosen."""
    guidance: float | None
    """Weight of classifier-free guidance; null: that of the test."""
    steps: int | None
    """DDIM steps; null: those of the test."""


class UnionOptions(TypedDict):
    """The constructor's options, see `ConesUnion`."""

    image_size: int
    base: BaseOptions
    clusters: list[str]
    scope: Scope
    tune: bool
    indices: Literal["union", "random"]
    prior: PriorOptions
    optimizer: OptimizerOptions
    sampler: SamplerOptions
    evaluation: EvaluationOptions
    seed: int
