"""How far depth and normals are from the truth: SIDE and MAD, as Unsup3D defines them (geod §2.9)."""

from collections.abc import Iterable
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MeanMetric


class MeanMetrics(nn.ModuleDict):
    """Means by name, each over all that its metric was updated with, on all processes."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__({name: MeanMetric() for name in names})

    def __getitem__(self, name: str) -> MeanMetric:
        return cast(MeanMetric, super().__getitem__(name))


def eroded(mask: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """Return a mask without its border of one pixel, where normals mix inside and outside."""
    return (functional.avg_pool2d(mask[:, None].float(), 3, stride=1, padding=1)[:, 0] > 0.99).float()


def angles(one: Float[Tensor, "b h w 3"], other: Float[Tensor, "b h w 3"]) -> Float[Tensor, "b h w"]:
    """Return the angles between unit normals, in degrees."""
    return torch.rad2deg(torch.atan2(torch.linalg.cross(one, other).norm(dim=-1), (one * other).sum(dim=-1)))


def mad(
    one: Float[Tensor, "b h w 3"], other: Float[Tensor, "b h w 3"], mask: Float[Tensor, "b h w"]
) -> Float[Tensor, " b"]:
    """Return the mean angle deviation of every image over a mask, in degrees; nan where the mask is empty."""
    return (angles(one, other) * mask).sum(dim=(1, 2)) / mask.sum(dim=(1, 2))


def side(
    depth: Float[Tensor, "b h w"], truth: Float[Tensor, "b h w"], mask: Float[Tensor, "b h w"]
) -> Float[Tensor, " b"]:
    """Return the scale-invariant depth error of every image over a mask, times 100; nan where the mask is empty."""
    difference, count = (depth.log() - truth.log()) * mask, mask.sum(dim=(1, 2))
    square, mean = difference.square().sum(dim=(1, 2)) / count, difference.sum(dim=(1, 2)) / count
    return 100 * (square - mean.square()).clamp_min(0).sqrt()
