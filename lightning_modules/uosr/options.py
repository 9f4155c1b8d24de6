"""The options of UOSR, as its config names them."""

from typing import Any, Literal, TypedDict

from lightning_modules.optimization import OptimizerOptions
from lightning_modules.uosr.backbones import Backbone
from lightning_modules.uosr.objectives.confidence import (
    LearnedConfidenceOptions,
    RightOrWrongOptions,
    TrueClassProbabilityOptions,
)
from lightning_modules.uosr.objectives.outlier_exposure import EnergyOptions, OutlierExposureOptions
from lightning_modules.uosr.objectives.proser import ProserOptions
from lightning_modules.uosr.objectives.vos import VirtualOutlierOptions
from lightning_modules.uosr.schedule import ScheduleOptions
from lightning_modules.uosr.scores.few_shot import FewShotOptions
from lightning_modules.uosr.scores.post_hoc import PostHocOptions

ObjectiveName = Literal["ce", "oe", "energy", "eb", "vos", "lc", "tcp", "bce", "proser"]


class Options(TypedDict):
    """The constructor's options, see `UOSR`."""

    num_classes: int
    in_channels: int
    image_size: int
    backbone: Backbone
    objective: ObjectiveName
    optimizer: OptimizerOptions
    schedule: ScheduleOptions
    oe: OutlierExposureOptions
    energy: EnergyOptions
    vos: VirtualOutlierOptions
    lc: LearnedConfidenceOptions
    tcp: TrueClassProbabilityOptions
    bce: RightOrWrongOptions
    proser: ProserOptions
    post_hoc: PostHocOptions
    few_shot: FewShotOptions
    shots: list[int]
    tuner: dict[str, Any] | None
