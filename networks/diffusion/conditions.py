"""What a diffusion network is conditioned on, and how it is called."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

Predict = Callable[[Tensor, Tensor], Tensor]
"""From noisy images [b, c, h, w] and timesteps [b] to a prediction [b, c, h, w]: all that a sampler knows."""


@dataclass(frozen=True)
class Conditions:
    """A condition set for a batch. What is None is absent: a network is to compute the same as if it did not exist.

    Attributes:
        tokens: what attention sees next to the image, such as the words of a caption.
        token_mask: True at the tokens that count, None where all do; the others have no influence whatever they hold.
        vector: added to the embedding of the timestep; absent for a sample where it is zero.
        local: concatenated to the noisy image; absent for a sample where it is zero.
    """

    tokens: Float[Tensor, "b n d"] | None = None
    token_mask: Bool[Tensor, "b n"] | None = None
    vector: Float[Tensor, "b e"] | None = None
    local: Float[Tensor, "b l h w"] | None = None


class DiffusionNetwork(Protocol):
    """A network that denoises under conditions."""

    def __call__(self, x: Tensor, timesteps: Tensor, conditions: Conditions | None = None) -> Tensor:
        """Return the prediction [b, c, h, w] for noisy images [b, c, h, w] at timesteps [b]."""
        ...


def concatenated(first: Conditions, second: Conditions) -> Conditions:
    """Return the conditions of both batches, one after the other.

    What is absent on one side only becomes dropped tokens or zeros there. Both sides may have any number of tokens.
    """
    lengths = [0 if side.tokens is None else side.tokens.shape[1] for side in (first, second)]
    masked = lengths[0] != lengths[1] or any(side.token_mask is not None for side in (first, second))
    masks = [_padded_mask(side, max(lengths)) for side in (first, second)] if masked else [None, None]
    return Conditions(
        tokens=_joined(_padded_tokens(first, max(lengths)), _padded_tokens(second, max(lengths))),
        token_mask=_joined(*masks),
        vector=_joined(first.vector, second.vector),
        local=_joined(first.local, second.local),
    )


def _joined(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    present = first if first is not None else second
    if present is None:
        return None
    # Zeros, and False in a mask, are what an absent condition contributes.
    absent = torch.zeros_like(present)
    return torch.cat([absent if part is None else part for part in (first, second)])


def _padded_tokens(side: Conditions, length: int) -> Tensor | None:
    return None if side.tokens is None else functional.pad(side.tokens, (0, 0, 0, length - side.tokens.shape[1]))


def _padded_mask(side: Conditions, length: int) -> Tensor | None:
    if side.tokens is None:
        return None
    mask = side.token_mask
    if mask is None:
        mask = torch.ones(side.tokens.shape[:2], dtype=torch.bool, device=side.tokens.device)
    return functional.pad(mask, (0, length - mask.shape[1]))
