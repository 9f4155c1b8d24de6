"""Optimizers and schedules that papers share, counted in optimizer steps."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypedDict, cast

import pytorch_lightning as pl
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from common.errors import UserError
from common.ranges import Fraction, FractionBelowOne, NonNegativeFloat, PositiveFloat
from networks.parameter_groups import named_group, with_kept_names
from tuners.tuner import Tuner

# Of the last, the three projections lie in `in_proj_weight`.
_WITH_KERNEL = (nn.Linear, nn.Conv2d, nn.MultiheadAttention)


class OptimizerOptions(TypedDict):
    """AdamW, or SGD with momentum (`momentum` serves SGD only)."""

    name: Literal["adamw", "sgd"]
    lr: PositiveFloat
    weight_decay: NonNegativeFloat
    momentum: FractionBelowOne


class WarmCosine(TypedDict):
    """Up along a line for `warmup_ratio` of the steps, then down to nothing along a cosine."""

    warmup_ratio: Fraction


def build_optimizer(
    parameters: Iterable[nn.Parameter] | list[dict[str, object]],
    options: OptimizerOptions,
    *,
    name: str = "",
    lr: float | None = None,
    nesterov: bool = False,
) -> Optimizer:
    """Return the optimizer of these parameters or groups of them.

    Args:
        parameters: parameters, or groups with a name each, that may have a weight decay of their own.
        options: see `OptimizerOptions`.
        name: what the parameters belong to, as their learning rate is logged; unless they are groups.
        lr: learning rate in place of the options'.
        nesterov: whether the momentum of SGD is Nesterov's.
    """
    lr, decay = options["lr"] if lr is None else lr, options["weight_decay"]
    groups: Any = named_group(cast("Iterable[nn.Parameter]", parameters), name) if name else parameters
    if options["name"] == "adamw":
        return with_kept_names(AdamW(groups, lr=lr, weight_decay=decay))
    momentum = options["momentum"]
    nesterov = nesterov and momentum > 0
    return with_kept_names(SGD(groups, lr=lr, weight_decay=decay, momentum=momentum, nesterov=nesterov))


def classifier_group(tuner: Tuner | None) -> str:
    """Return the name of a group that has all that is trained of a classifier."""
    return "backbone_and_head" if tuner is None else "tuner_and_head"


def parameter_groups(modules: Iterable[nn.Module], weight_decay: float, name: str) -> list[dict[str, object]]:
    """Return the trained parameters in two groups: matrices and kernels decay; biases, scales and prompts do not.

    Args:
        modules: what is trained.
        weight_decay: of the first group.
        name: what the first group is called; the second is `NAME_no_decay`.
    """
    decayed, plain, seen = list[nn.Parameter](), list[nn.Parameter](), set[int]()
    for root in modules:
        for module in root.modules():
            for key, parameter in module.named_parameters(recurse=False):
                if not parameter.requires_grad or id(parameter) in seen:
                    continue
                seen.add(id(parameter))
                is_kernel = isinstance(module, _WITH_KERNEL) and key.endswith("weight")
                (decayed if is_kernel else plain).append(parameter)
    groups: list[dict[str, object]] = [
        {"params": decayed, "weight_decay": weight_decay, "name": name},
        {"params": plain, "weight_decay": 0.0, "name": f"{name}_no_decay"},
    ]
    return [group for group in groups if group["params"]]


def warm_cosine(step: int, total: int, warmup_ratio: float) -> float:
    """Return what to multiply the peak learning rate by at an optimizer step."""
    warm = warmup_ratio * total
    if step < warm:
        return (step + 1) / (warm + 1)
    return (1 + math.cos(math.pi * (step - warm) / max(1.0, total - warm))) / 2


def training_steps(trainer: pl.Trainer) -> int:
    """Return the number of optimizer steps of a whole training.

    Raises:
        UserError: if the training has no end.
    """
    total = trainer.estimated_stepping_batches
    if total == float("inf"):
        raise UserError("the schedule needs an end of training: set trainer.max_epochs or trainer.max_steps")
    return int(total)


def with_schedule(optimizer: Optimizer, factor: Callable[[int], float]) -> OptimizerLRSchedulerConfig:
    """Return an optimizer whose peak learning rate is multiplied by a factor of the optimizer step."""
    schedule = LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def with_warm_cosine(
    module: pl.LightningModule, optimizer: Optimizer, warmup_ratio: float
) -> OptimizerLRSchedulerConfig:
    """Return an optimizer whose learning rate follows `warm_cosine` over the whole training of a module.

    Raises:
        UserError: if the training has no end.
    """
    total = training_steps(module.trainer)
    return with_schedule(optimizer, lambda step: warm_cosine(step, total, warmup_ratio))


def one_cycle(step: int, total: int, warmup_ratio: float) -> float:
    """Return the factor of the one-cycle policy (Smith & Topin 2018), with the ends that torch's OneCycleLR has."""
    start, end, peak = 1 / 25, 1 / 250_000, warmup_ratio * total - 1
    if step <= peak:
        return _cosine(start, 1.0, step / peak if peak else 1.0)
    return _cosine(1.0, end, min(1.0, (step - peak) / max(1.0, total - 1 - peak)))


def _cosine(first: float, last: float, share: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2
