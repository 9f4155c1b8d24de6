"""The learning rate, counted in episodes: up along a line, then down in steps (§2.7)."""

from collections.abc import Iterable
from typing import TypedDict

from torch import nn
from torch.optim import Adam

from common.ranges import FractionBelowOne, NonNegativeFloat, NonNegativeInt, PositiveFloat
from networks.parameter_groups import with_kept_names


class AdamOptions(TypedDict):
    """Adam with weight decay in the gradient, as in the released code; see `build_adam` for what does not decay."""

    lr: PositiveFloat
    beta1: FractionBelowOne
    beta2: FractionBelowOne
    weight_decay: NonNegativeFloat


class StepSchedule(TypedDict):
    """From `warmup_lr` to the peak over `warmup_episodes`; at each of `milestones`, in episodes, times `gamma`."""

    warmup_episodes: NonNegativeInt
    warmup_lr: NonNegativeFloat
    milestones: list[NonNegativeInt]
    gamma: PositiveFloat


def learning_rate(episodes: int, peak: float, schedule: StepSchedule) -> float:
    """Return the learning rate after so many training episodes of all processes."""
    if episodes < schedule["warmup_episodes"]:
        return schedule["warmup_lr"] + (peak - schedule["warmup_lr"]) * episodes / schedule["warmup_episodes"]
    return peak * schedule["gamma"] ** sum(episodes >= milestone for milestone in schedule["milestones"])


def build_adam(
    named_parameters: Iterable[tuple[str, nn.Parameter]], options: AdamOptions, tuner_lr: float | None = None
) -> Adam:
    """Return Adam over what is trained, its groups named by their parts; nothing called "bn" or "norm" decays.

    By that rule, the released code's, a ViT's norms, which are called `ln`, and those of a ResNet's shortcuts do decay.

    Args:
        named_parameters: those of the image encoder under `visual.`, those of its tuner, if any, under `tuner.`.
        options: see `AdamOptions`.
        tuner_lr: learning rate of what a tuner trains, the encoder itself or layers beside it; None without one.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    parts: dict[tuple[float, float], dict[str, None]] = {}
    encoder = "encoder" if tuner_lr is None else "tuner"
    for name, parameter in named_parameters:
        if parameter.requires_grad:
            is_tuned = name.startswith(("visual.", "tuner."))
            lr = tuner_lr if is_tuned and tuner_lr is not None else options["lr"]
            decay = 0.0 if "bn" in name or "norm" in name else options["weight_decay"]
            groups.setdefault((lr, decay), []).append(parameter)
            parts.setdefault((lr, decay), {})[encoder if is_tuned else "head"] = None
    given = [
        {"params": own, "lr": key[0], "weight_decay": key[1], "name": _name(parts[key], key[1], options)}
        for key, own in groups.items()
    ]
    return with_kept_names(Adam(given, betas=(options["beta1"], options["beta2"])))


def _name(parts: Iterable[str], decay: float, options: AdamOptions) -> str:
    """Return the name of a group, such as `encoder_and_head_no_decay`."""
    return "_and_".join(sorted(parts, key="head".__eq__)) + ("_no_decay" if decay < options["weight_decay"] else "")
