"""The options of Neural Dependency, as its config names them."""

from typing import Any, Literal, TypedDict

from lightning_modules.neural_dependency.networks import NetworkOptions, SourceOptions
from lightning_modules.neural_dependency.reading import AnalysisOptions
from lightning_modules.neural_dependency.regularizer import RegularizerOptions
from lightning_modules.neural_dependency.unseen.protocol import UnseenOptions
from lightning_modules.optimization import OptimizerOptions


class Options(TypedDict):
    """The constructor's options, see `NeuralDependency`."""

    num_classes: int
    in_channels: int
    image_size: int
    network: NetworkOptions
    train_network: bool
    source: SourceOptions | None
    analysis: AnalysisOptions
    unseen: UnseenOptions
    regularizer: RegularizerOptions
    test_noise_std: float
    wordnet: str | None
    solver: Literal["gram", "head"]
    optimizer: OptimizerOptions
    warmup_ratio: float
    tuner: dict[str, Any] | None
