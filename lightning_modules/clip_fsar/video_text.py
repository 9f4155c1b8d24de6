"""Clips against class names: the contrastive loss on base classes, zero-shot, the ensemble (§2.3 and §2.9)."""

from typing import TypedDict

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from common.ranges import NonNegativeFloat, PositiveFloat
from networks.precision import single_precision


class VideoTextOptions(TypedDict):
    """The loss between clips and the names of all base classes: its `weight`, and what its `scale` starts from."""

    weight: NonNegativeFloat
    scale: PositiveFloat


def video_text_logits(
    frames: Float[Tensor, "*b t d"], names: Float[Tensor, "*c k d"], scale: Float[Tensor, ""] | float
) -> Float[Tensor, "*b k"]:
    """Return scaled cosines between mean frame features and text features.

    Args:
        frames: frame features of clips, not normalised.
        names: text features of k classes: of all base classes in training, of an episode's own at test.
        scale: what cosines are multiplied by.
    """
    with single_precision(frames):
        clip = functional.normalize(frames.float().mean(dim=-2), dim=-1)
        return scale * clip @ functional.normalize(names.float(), dim=-1).mT


def ensemble(
    text_logits: Float[Tensor, "*b n"], distances: Float[Tensor, "*b n"], frames: int, text_weight: float
) -> Float[Tensor, "*b n"]:
    """Return the score p_text^share p_vis^(1 - share) of each class (§2.9).

    Args:
        text_logits: logits of the clips against the names.
        distances: distances of the clips to the prototypes.
        frames: frames T of a clip; p_vis is the softmax of (T - distance) / T.
        text_weight: exponent of the text's probability, 0 to 1.
    """
    text = text_logits.float().log_softmax(dim=-1)
    seen = ((frames - distances.float()) / frames).log_softmax(dim=-1)
    return torch.exp(text_weight * text + (1 - text_weight) * seen)
