"""The options of CLIP-FSAR's constructor as a type, and what makes no model of them."""

from typing import Any, TypedDict

from common.errors import UserError
from lightning_modules.clip_fsar.alignment import LEAST_SMOOTHNESS, AlignmentOptions
from lightning_modules.clip_fsar.evaluation import EvaluationOptions, check_evaluation
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
    towers, context, optimizer = options["towers"], options["context"], options["optimizer"]
    check_towers(towers)
    check_evaluation(options["evaluation"])
    if (context["text_modulation"] or options["video_text"]["weight"]) and towers["weights"] is None:
        raise UserError("model.towers.weights is null: to untrained towers a class name says nothing")
    if context["text_modulation"] and not context["depth"]:
        raise UserError("model.context.depth is 0: without a block no prototype can read a name")
    if options["frozen"] and (options["tuner"] or {}).get("_target_"):
        raise UserError("model.frozen is true: a tuner would have nothing to tune; take tuner=none or frozen=false")
    smoothness = options["alignment"]["smoothness"]
    if smoothness < LEAST_SMOOTHNESS:
        raise UserError(f"model.alignment.smoothness is {smoothness}, should be {LEAST_SMOOTHNESS} or more")
    if optimizer["lr"] <= 0:
        raise UserError(f"model.optimizer.lr is {optimizer['lr']}, should be above 0")
    if towers["name"] == MINI:
        check_mini(options["mini"])
