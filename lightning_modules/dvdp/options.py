"""The options of DVDP's constructor, and what it asks of its data, as types."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypedDict

from common.errors import UserError
from common.ranges import PositiveInt
from lightning_modules.base import SampleOptions
from lightning_modules.dvdp.evaluation import EvaluationOptions
from lightning_modules.dvdp.networks import LevelNetworkOptions, check_network
from lightning_modules.dvdp.parameterization import DVDPPrediction
from lightning_modules.dvdp.process import Process, ProcessOptions
from lightning_modules.dvdp.sampler import SamplerOptions, visits
from lightning_modules.optimization import OptimizerOptions, WarmCosine


class DVDPOptions(TypedDict):
    """The hyper-parameters of `DVDP`, which describes each."""

    channels: int
    image_size: int
    process: ProcessOptions
    prediction: DVDPPrediction
    level_scale: bool
    level_weight: list[float] | None
    batch_scale: list[int] | None
    network: LevelNetworkOptions
    ema: float
    optimizer: OptimizerOptions
    schedule: WarmCosine
    sampler: SamplerOptions
    evaluation: EvaluationOptions
    compile: bool
    channels_last: bool
    seed: int


class DVDPSampleOptions(SampleOptions):
    """What `mode=sample` may ask of `DVDP`."""

    steps: PositiveInt | None
    """Reverse steps; null: those of the test."""


class ImageData(Protocol):
    """A DataModule of images: the batch size of one process, and data sets by name."""

    batch_size: int

    def source(self, name: str) -> Sequence[Mapping[str, Any]]:
        """Return the data set of a name; samples have an `image` float [c, h, w] in -1..1."""
        ...


def check_options(options: DVDPOptions, process: Process) -> None:
    """Raise UserError, in one line, for options that make no model with this process."""
    levels, evaluation = process.last_level + 1, options["evaluation"]
    check_network(options["image_size"], levels, options["network"])
    for name, values in (("level_weight", options["level_weight"]), ("batch_scale", options["batch_scale"])):
        if values is not None and len(values) != levels:
            raise UserError(f"{name} is {values}, should be {levels} numbers, one for each level")
    for steps in [options["sampler"]["steps"], evaluation["steps"], *evaluation["curve_steps"]]:
        visits(process, steps)
