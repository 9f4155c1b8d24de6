"""The options of CLIP-FSAR's constructor as a type, and what makes no model of them."""

from typing import Any, TypedDict

from common.errors import UserError
from lightning_modules.clip_fsar.alignment import AlignmentOptions
from lightning_modules.clip_fsar.evaluation import EvaluationOptions
from lightning_modules.clip_fsar.modulation import ContextOptions
from lightning_modules.clip_fsar.schedule import AdamOptions, StepSchedule
from lightning_modules.clip_fsar.video_text import VideoTextOptions
from networks.clip.mini import MINI, MiniOptions, check_mini
from networks.clip.towers import TowerOptions, check_towers


class CLIPFSAROptions(TypedDict):
    """The hyper-parameters of `CLIPFSAR`, which describes each."""

    image_size: int
    frames: int
    shots: int
    towers: TowerOptions
    mini: MiniOptions
    frozen: bool
    context: ContextOptions
    alignment: AlignmentOptions
    video_text: VideoTextOptions
    optimizer: AdamOptions
    schedule: StepSchedule
    evaluation: EvaluationOptions
    tuner: dict[str, Any] | None


def check_options(options: CLIPFSAROptions) -> None:
    """Raise UserError, in one line, for options that make no model or no test."""
    towers, context = options["towers"], options["context"]
    check_towers(towers)
    if not options["evaluation"]["shots"]:
        raise UserError("model.evaluation.shots is []: take numbers of shots, as [1,5]")
    if (context["text_modulation"] or options["video_text"]["weight"]) and towers["weights"] is None:
        raise UserError("model.towers.weights is null: to untrained towers a class name says nothing")
    if context["text_modulation"] and not context["depth"]:
        raise UserError("model.context.depth is 0: without a block no prototype can read a name")
    if options["frozen"] and (options["tuner"] or {}).get("_target_"):
        raise UserError("model.frozen is true: a tuner would have nothing to tune; take tuner=none or frozen=false")
    if towers["name"] == MINI:
        check_mini(options["mini"])
