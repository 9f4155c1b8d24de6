"""From a picture uint8 [3, h, w] to an image in -1..1, with and without augmentation."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchvision.transforms import v2

Transform = Callable[[Tensor], Tensor]


def check_input(
    channels: int, size: int, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[list[float], list[float]] | None:
    """Return mean and deviation that images are normalized with, None where the backbone's are taken.

    Raises:
        ValueError: unless images are colored and there is a mean in 0..1 and a deviation for each channel, if any.
    """
    if channels != 3 or size < 1:
        raise ValueError(
            f"data.image_size is {size}, data.channels is {channels}: no images of {channels} channels and side {size}"
        )
    if mean is None and std is None:
        return None
    mean, std = list(mean or [0.5] * channels), list(std or [0.5] * channels)
    if len(mean) != channels or not all(0 <= value <= 1 for value in mean):
        raise ValueError(f"data.mean is {mean}, should be {channels} numbers in 0..1")
    if len(std) != channels or min(std) <= 0:
        raise ValueError(f"data.std is {std}, should be {channels} numbers above 0")
    return mean, std


def to_signed(steps: Sequence[Transform]) -> Transform:
    """Return the steps and then: float32 in -1..1."""
    return v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)])


def crop_flip(size: int) -> Transform:
    """Return VPT's training augmentation: shorter side to 8/7 of `size` (256 for 224), random crop, random flip."""
    steps = [v2.Resize(size * 8 // 7, antialias=True), v2.RandomCrop(size), v2.RandomHorizontalFlip()]
    return to_signed(steps)


def centre_crop(size: int) -> Transform:
    """Return VPT's evaluation transform: shorter side to 8/7 of `size` (256 for 224), crop of the middle."""
    return to_signed([v2.Resize(size * 8 // 7, antialias=True), v2.CenterCrop(size)])


def direct_resize(size: int, before: Sequence[Transform] = ()) -> Transform:
    """Return a resize of the whole picture to `size` x `size`, its shape not kept, after the steps of `before`."""
    return to_signed([*before, v2.Resize((size, size), antialias=True)])


def resize_crop(size: int, crop_pct: float, interpolation: str) -> Transform:
    """Return timm's evaluation transform: shorter side to `size` / `crop_pct` (rounded down), crop of the middle.

    Args:
        size: side of the result in pixels.
        crop_pct: what timm's data configs call crop_pct.
        interpolation: "bilinear" or "bicubic".
    """
    resize = v2.Resize(int(size / crop_pct), v2.InterpolationMode(interpolation), antialias=True)
    return to_signed([resize, v2.CenterCrop(size)])
