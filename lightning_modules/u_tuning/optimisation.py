"""Optimizer and schedule of a tuning run."""

import math
from collections.abc import Iterable, Mapping
from typing import Literal, TypedDict

from torch import nn
from torch.optim import SGD, AdamW, Optimizer


class OptimizerOptions(TypedDict):
    """AdamW, or SGD with momentum; `lr` is for runs without a tuner, which brings its own."""

    name: Literal["adamw", "sgd"]
    lr: float
    weight_decay: float
    momentum: float


class ScheduleOptions(TypedDict):
    """Up along a line for `warmup_share` of the steps, then down to nothing along a cosine."""

    warmup_share: float


def parameter_groups(modules: Iterable[nn.Module], weight_decay: float) -> list[dict[str, object]]:
    """Return the trained parameters in two groups: matrices and kernels decay; biases, scales and prompts do not."""
    decayed, plain, seen = [], [], set[int]()
    for root in modules:
        for module in root.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if not parameter.requires_grad or id(parameter) in seen:
                    continue
                seen.add(id(parameter))
                is_kernel = isinstance(module, nn.Linear | nn.Conv2d) and name == "weight"
                (decayed if is_kernel else plain).append(parameter)
    groups = ({"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


def build_optimizer(groups: list[dict[str, object]], lr: float, options: Mapping[str, object]) -> Optimizer:
    """Return the optimizer of these groups."""
    if options["name"] == "adamw":
        return AdamW(groups, lr=lr)
    return SGD(groups, lr=lr, momentum=float(str(options["momentum"])))


def warm_cosine(step: int, total: int, warmup_share: float) -> float:
    """Return what to multiply the peak learning rate by at an optimizer step."""
    warm = warmup_share * total
    if step < warm:
        return (step + 1) / (warm + 1)
    return (1 + math.cos(math.pi * (step - warm) / max(1.0, total - warm))) / 2
