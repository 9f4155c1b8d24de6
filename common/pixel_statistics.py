"""Means and standard deviations by channel (RGB, pixels in 0..1) that published networks were trained with."""

from collections.abc import Sequence
from typing import TypeAlias

Statistics: TypeAlias = tuple[Sequence[float], Sequence[float]]
"""Mean and standard deviation by channel."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
