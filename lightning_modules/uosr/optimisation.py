"""Optimizer and schedule, counted in optimizer steps."""

import math
from collections.abc import Callable, Iterable
from typing import Literal, TypedDict

from torch import nn
from torch.optim import SGD, AdamW, Optimizer


class OptimizerOptions(TypedDict):
    """AdamW, or SGD with Nesterov momentum (`momentum` serves SGD only)."""

    name: Literal["adamw", "sgd"]
    lr: float
    weight_decay: float
    momentum: float


class ScheduleOptions(TypedDict):
    """How the learning rate moves.

    `one_cycle`: up for `warmup_share` of the steps, from 1/25 of the peak, then down to almost nothing, along cosines.
    `steps`: a straight warm-up of `warmup_steps`, then times `gamma` at each of the `milestones`.
    """

    name: Literal["one_cycle", "steps"]
    warmup_share: float
    warmup_steps: int
    milestones: list[int]
    gamma: float


def build_optimizer(parameters: Iterable[nn.Parameter], options: OptimizerOptions) -> Optimizer:
    """Return the optimizer of these parameters."""
    lr, decay = options["lr"], options["weight_decay"]
    if options["name"] == "adamw":
        return AdamW(parameters, lr=lr, weight_decay=decay)
    momentum = options["momentum"]
    return SGD(parameters, lr=lr, weight_decay=decay, momentum=momentum, nesterov=momentum > 0)


def build_schedule(options: ScheduleOptions, total: int, restart: int) -> Callable[[int], float]:
    """Return what to multiply the peak learning rate by at an optimizer step.

    Args:
        options: see `ScheduleOptions`.
        total: optimizer steps of the whole training.
        restart: step at which a second stage begins; one cycle is run before it and one after it. 0: one cycle in all.
    """

    def one_cycle(step: int) -> float:
        if step < restart:
            return _cycle(step, restart, options["warmup_share"])
        return _cycle(step - restart, total - restart, options["warmup_share"])

    def steps(step: int) -> float:
        warm = min(1.0, step / options["warmup_steps"]) if options["warmup_steps"] else 1.0
        return float(warm * options["gamma"] ** sum(step >= milestone for milestone in options["milestones"]))

    return one_cycle if options["name"] == "one_cycle" else steps


def _cycle(step: int, total: int, warmup_share: float) -> float:
    """Return the factor of the one-cycle policy (Smith & Topin 2018), with the ends that torch's OneCycleLR has."""
    start, end, peak = 1 / 25, 1 / 250_000, warmup_share * total - 1
    if step <= peak:
        return _cosine(start, 1.0, step / peak if peak else 1.0)
    return _cosine(1.0, end, min(1.0, (step - peak) / max(1.0, total - 1 - peak)))


def _cosine(first: float, last: float, share: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2
