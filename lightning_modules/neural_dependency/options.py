"""The options of Neural Dependency, as its config names them."""

from typing import Any, Literal, TypedDict

from common.errors import UserError
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


def check_categories(options: Options, data: Any) -> None:
    """Raise UserError if a second network knows other categories than the data have, or too few are there to read."""
    count, new, source = options["num_classes"], int(getattr(data, "num_new", 0)), options["source"]
    if source is not None and source["num_classes"] != count + new:
        raise UserError(
            f"model.source.num_classes is {source['num_classes']}, but the data have {count} categories and {new} new"
            " ones (data.num_new)"
        )
    if options["analysis"]["min_subset"] > count:
        raise UserError(
            f"model.analysis.min_subset is {options['analysis']['min_subset']}, but there are {count} categories"
        )
