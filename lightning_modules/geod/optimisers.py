"""The three players' optimizers: Adam, corrected for steps that a lazy regularisation adds (Karras et al. 2020)."""

from collections.abc import Iterable
from typing import TypedDict

from torch import nn
from torch.optim import Adam


class AdamOptions(TypedDict):
    """Adam."""

    lr: float
    beta1: float
    beta2: float
    weight_decay: float


class PlayersOptions(TypedDict):
    """The optimizer of every player."""

    generator: AdamOptions
    discriminator: AdamOptions
    inverse_renderer: AdamOptions


def build_adam(parameters: Iterable[nn.Parameter], options: AdamOptions, *, lazy_interval: int | None = None) -> Adam:
    """Return the optimizer.

    Args:
        parameters: what it moves.
        options: see `AdamOptions`.
        lazy_interval: if a regularisation has a step of its own every so many steps, all are made so much shorter that
            moments and weights move as fast as without it.
    """
    share = lazy_interval / (lazy_interval + 1) if lazy_interval else 1.0
    # Whole numbers would be refused by torch.
    betas = (float(options["beta1"]) ** share, float(options["beta2"]) ** share)
    return Adam(parameters, lr=options["lr"] * share, betas=betas, weight_decay=options["weight_decay"])
