"""Lazy regularization: a loss of every k-th step, and the optimizer's correction for its extra steps.

Karras et al. 2020, section 3.1 and appendix B: the loss is multiplied by k, and Adam's learning rate and betas are
corrected by c = k / (k + 1), so that weights and moments move as fast as without the k + 1st step.
"""

from collections.abc import Iterable
from typing import Any, TypedDict

from torch import nn
from torch.optim import Adam


class AdamOptions(TypedDict):
    """Adam; `weight_decay` is added to the gradient."""

    lr: float
    beta1: float
    beta2: float
    weight_decay: float


def is_due(step: int, interval: int) -> bool:
    """Return whether a loss of every `interval` steps is part of this one; the first step is 0 and has it."""
    return step % interval == 0


def lazy_weight(weight: float, interval: int) -> float:
    """Return the weight of a loss that is computed once in `interval` steps: the gain is the interval."""
    return weight * interval


def build_adam(
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
    options: AdamOptions,
    *,
    lazy_interval: int | None = None,
) -> Adam:
    """Return Adam with lr * c and betas ** c, where c = k / (k + 1).

    Args:
        parameters: what it moves, or groups of it with names.
        options: see `AdamOptions`.
        lazy_interval: k, if a regularization has a step of its own every k steps; None for c = 1.
    """
    correction = lazy_interval / (lazy_interval + 1) if lazy_interval else 1.0
    # torch refuses whole numbers.
    betas = (float(options["beta1"]) ** correction, float(options["beta2"]) ** correction)
    return Adam(parameters, lr=options["lr"] * correction, betas=betas, weight_decay=options["weight_decay"])
