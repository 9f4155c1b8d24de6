"""The learning rate, counted in episodes: up along a line, then down in steps (§2.7)."""

from collections.abc import Iterable
from typing import TypedDict

from torch import nn
from torch.optim import Adam


class AdamOptions(TypedDict):
    """Adam with weight decay in the gradient, as in the released code; see `build_adam` for what does not decay."""

    lr: float
    beta1: float
    beta2: float
    weight_decay: float


class StepSchedule(TypedDict):
    """From `warmup_lr` to the peak over `warmup` episodes; at each of `drops`, counted in episodes, times `factor`."""

    warmup: int
    warmup_lr: float
    drops: list[int]
    factor: float


def learning_rate(episodes: int, peak: float, schedule: StepSchedule) -> float:
    """Return the learning rate after so many training episodes of all processes."""
    if episodes < schedule["warmup"]:
        return schedule["warmup_lr"] + (peak - schedule["warmup_lr"]) * episodes / schedule["warmup"]
    return peak * schedule["factor"] ** sum(episodes >= drop for drop in schedule["drops"])


def build_adam(
    named_parameters: Iterable[tuple[str, nn.Parameter]], options: AdamOptions, tuner_lr: float | None = None
) -> Adam:
    """Return Adam over what is trained; nothing whose name has "bn" or "norm" decays, as in the released code.

    By that rule a ViT's norms, which are called `ln`, and those of a ResNet's shortcuts do decay.

    Args:
        named_parameters: those of the image encoder under `visual.`, those of its tuner, if any, under `tuner.`.
        options: see `AdamOptions`.
        tuner_lr: learning rate of what a tuner trains, the encoder itself or layers beside it; None without one.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in named_parameters:
        if parameter.requires_grad:
            is_tuned = name.startswith(("visual.", "tuner."))
            lr = tuner_lr if is_tuned and tuner_lr is not None else options["lr"]
            decay = 0.0 if "bn" in name or "norm" in name else options["weight_decay"]
            groups.setdefault((lr, decay), []).append(parameter)
    given = [{"params": own, "lr": lr, "weight_decay": decay} for (lr, decay), own in groups.items()]
    return Adam(given, betas=(options["beta1"], options["beta2"]))
