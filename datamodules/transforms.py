"""From a picture uint8 [3, h, w] to what a pre-trained backbone takes, with and without augmentation."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchvision.transforms import v2

Transform = Callable[[Tensor], Tensor]


def check_input(channels: int, size: int, mean: Sequence[float], std: Sequence[float]) -> None:
    """Raise ValueError unless images are coloured and there is a mean in 0..1 and a deviation for each channel."""
    if channels != 3 or size < 1:
        raise ValueError(
            f"data.image_size is {size}, data.channels is {channels}: no images of {channels} channels and side {size}"
        )
    if len(mean) != channels or not all(0 <= value <= 1 for value in mean):
        raise ValueError(f"data.mean is {list(mean)}, should be {channels} numbers in 0..1")
    if len(std) != channels or min(std) <= 0:
        raise ValueError(f"data.std is {list(std)}, should be {channels} numbers above 0")


def _normalised(steps: Sequence[Transform], mean: Sequence[float], std: Sequence[float]) -> Transform:
    """Return the steps and then: float32 in 0..1, less `mean`, over `std`."""
    return v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))])


def crop_flip(size: int, mean: Sequence[float], std: Sequence[float]) -> Transform:
    """Return VPT's training augmentation: shorter side to 8/7 of `size` (256 for 224), random crop, random flip."""
    steps = [v2.Resize(size * 8 // 7, antialias=True), v2.RandomCrop(size), v2.RandomHorizontalFlip()]
    return _normalised(steps, mean, std)


def centre_crop(size: int, mean: Sequence[float], std: Sequence[float]) -> Transform:
    """Return VPT's evaluation transform: shorter side to 8/7 of `size` (256 for 224), crop of the middle."""
    return _normalised([v2.Resize(size * 8 // 7, antialias=True), v2.CenterCrop(size)], mean, std)


def direct_resize(
    size: int, mean: Sequence[float], std: Sequence[float], before: Sequence[Transform] = ()
) -> Transform:
    """Return a resize of the whole picture to `size` x `size`, its shape not kept, after the steps of `before`."""
    return _normalised([*before, v2.Resize((size, size), antialias=True)], mean, std)


def resize_crop(
    size: int, crop_pct: float, interpolation: str, mean: Sequence[float], std: Sequence[float]
) -> Transform:
    """Return timm's evaluation transform: shorter side to `size` / `crop_pct` (rounded down), crop of the middle.

    Args:
        size: side of the result in pixels.
        crop_pct: what timm's data configs call crop_pct.
        interpolation: "bilinear" or "bicubic".
        mean: see `check_input`.
        std: see `check_input`.
    """
    resize = v2.Resize(int(size / crop_pct), v2.InterpolationMode(interpolation), antialias=True)
    return _normalised([resize, v2.CenterCrop(size)], mean, std)
