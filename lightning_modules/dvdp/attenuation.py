"""How the detail of a level fades towards its turning point: g falls from 1 to delta (§2.2).

The paper's own schedule is not known to us; these are our choice, the default geometric (§3.2).
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Attenuation = Literal["geometric", "linear", "cosine", "none"]

_CURVES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "geometric": lambda share, delta: delta**share,
    "linear": lambda share, delta: 1 - (1 - delta) * share,
    "cosine": lambda share, delta: delta + (1 - delta) * (1 + torch.cos(math.pi * share)) / 2,
    # Without attenuation the process is an ordinary diffusion whose detail is cut off (Subspace Diffusion).
    "none": lambda share, _: torch.ones_like(share),
}
NAMES = tuple(_CURVES)


def attenuation(name: Attenuation, share: Tensor, delta: float) -> Tensor:
    """Return g, between 1 and delta.

    Args:
        name: the curve.
        share: how much of the segment has passed, 0 at its start and 1 at the turning point.
        delta: what is left of the detail at the turning point, above 0 and at most 1; "none" has no use for it.
    """
    return _CURVES[name](share.clamp(0, 1), delta)
