"""The learning rate, counted in episodes: up along a line, then down in steps (spec, section 2.3)."""

from typing import TypedDict

from torch import nn
from torch.optim import Adam


class AdamOptions(TypedDict):
    """Adam with weight decay in the gradient, as in the released code; norms do not decay."""

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


def build_adam(module: nn.Module, options: AdamOptions, lr: float | None = None) -> Adam:
    """Return Adam over what is trained; nothing whose name has "bn" or "norm" decays."""
    plain, decayed = [], []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            (plain if "bn" in name or "norm" in name else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": options["weight_decay"]}, {"params": plain, "weight_decay": 0.0}]
    betas = (options["beta1"], options["beta2"])
    return Adam([group for group in groups if group["params"]], lr=options["lr"] if lr is None else lr, betas=betas)
