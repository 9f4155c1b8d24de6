"""Lazy regularization: a loss of every k-th step, and the optimizer's correction for its extra steps.

Karras et al. 2020, section 3.1 and appendix B: the loss is multiplied by k, and Adam's learning rate and betas are
corrected by c = k / (k + 1), so that weights and moments move as fast as without the k + 1st step.
"""

from collections.abc import Iterable
from typing import TypedDict

from torch import nn
from torch.optim import Adam

from common.ranges import FractionBelowOne, NonNegativeFloat, PositiveFloat
from networks.parameter_groups import named_group, with_kept_names


class AdamOptions(TypedDict):
    """Adam; `weight_decay` is added to the gradient."""

    lr: PositiveFloat
    beta1: FractionBelowOne
    beta2: FractionBelowOne
    weight_decay: NonNegativeFloat


def is_due(step: int, interval: int) -> bool:
    """Return whether a loss of every `interval` steps is part of this one; the first step is 0 and has it."""
    return step % interval == 0


def lazy_weight(weight: float, interval: int) -> float:
    """Return the weight of a loss that is computed once in `interval` steps: the gain is the interval."""
    return weight * interval


def build_adam(
    parameters: Iterable[nn.Parameter], options: AdamOptions, *, name: str, lazy_interval: int | None = None
) -> Adam:
    """Return Adam with lr * c and betas ** c, where c = k / (k + 1); the learning rate that is logged is lr * c.

    Args:
        parameters: what it moves.
        options: see `AdamOptions`.
        name: what the parameters belong to, as their learning rate is logged.
        lazy_interval: k, if a regularization has a step of its own every k steps; None for c = 1.
    """
    correction = lazy_interval / (lazy_interval + 1) if lazy_interval else 1.0
    # torch refuses whole numbers.
    betas = (float(options["beta1"]) ** correction, float(options["beta2"]) ** correction)
    groups, lr = named_group(parameters, name), options["lr"] * correction
    return with_kept_names(Adam(groups, lr=lr, betas=betas, weight_decay=options["weight_decay"]))
