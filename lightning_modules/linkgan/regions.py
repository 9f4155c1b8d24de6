"""Regions of the image that latent axes are linked to: boxes, halves, quadrants, parts of a face, classes (§2.1)."""

from collections.abc import Mapping
from typing import NamedTuple, TypedDict

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from common.errors import UserError, suggestion
from lightning_modules.linkgan.segmenters import Segmenter


class ClassRegion(TypedDict):
    """The pixels that a frozen segmenter gives one of these classes."""

    classes: list[str]


Region = str | list[float] | ClassRegion
"""A name of `NAMED_REGIONS`; a box as top, left, bottom, right (decimals are fractions of the side, whole numbers are
pixels); or classes of the segmenter."""


class Box(NamedTuple):
    """Rows `top` to `bottom` and columns `left` to `right`, the ends excluded, in fractions of the side."""

    top: float
    left: float
    bottom: float
    right: float


def _centered(row: int, column: int, height: int, width: int) -> Box:
    """Return the box of a center and a size in pixels of FFHQ at 256 (zhujiapeng/resefa, coordinate.py)."""
    top, left = row - height // 2, column - width // 2
    return Box(top / 256, left / 256, (top + height) / 256, (left + width) / 256)


NAMED_REGIONS: Mapping[str, Box] = {
    "left_half": Box(0, 0, 1, 0.5),
    "right_half": Box(0, 0.5, 1, 1),
    "top_half": Box(0, 0, 0.5, 1),
    "bottom_half": Box(0.5, 0, 1, 1),
    "top_left": Box(0, 0, 0.5, 0.5),
    "top_right": Box(0, 0.5, 0.5, 1),
    "bottom_left": Box(0.5, 0, 1, 0.5),
    "bottom_right": Box(0.5, 0.5, 1, 1),
    # Parts of aligned faces as FFHQ has them; left and right are the image's.
    "left_eye": _centered(120, 95, 20, 38),
    "right_eye": _centered(120, 159, 20, 38),
    "eyes": _centered(120, 128, 20, 115),
    "nose": _centered(142, 131, 40, 46),
    "mouth": _centered(184, 127, 30, 70),
    "chin": _centered(217, 130, 42, 110),
    "eyebrow": _centered(126, 105, 15, 118),
}


def box_of(region: str | list[float], side: int, key: str) -> tuple[int, int, int, int]:
    """Return top, left, bottom and right of a region in pixels, the ends excluded.

    Args:
        region: a name, or a box in fractions or pixels.
        side: side of the images.
        key: the key of the config that has the region.

    Raises:
        UserError: if there is no such region, it leaves the image, or has no pixel.
    """
    if isinstance(region, str):
        if region not in NAMED_REGIONS:
            raise UserError(f"{key}: there is no region {region!r}{suggestion(region, NAMED_REGIONS)}")
        edges, is_pixels = list(NAMED_REGIONS[region]), False
    else:
        if len(region) != 4:
            raise UserError(f"{key} is {region}, should be top, left, bottom and right, in pixels or fractions")
        edges, is_pixels = list(region), all(isinstance(edge, int) for edge in region)
    limit, words = (side, "pixels") if is_pixels else (1, "fractions of the side")
    if min(edges) < 0 or max(edges) > limit:
        raise UserError(f"{key} is {region}, should be within 0 to {limit} ({words})")
    top, left, bottom, right = (int(edge) if is_pixels else round(edge * side) for edge in edges)
    if top >= bottom or left >= right:
        raise UserError(
            f"{key} is {region}: no pixel of images of {side} x {side} is in it; top is above bottom, left before right"
        )
    return top, left, bottom, right


def box_mask(box: tuple[int, int, int, int], side: int) -> Bool[Tensor, "1 1 h w"]:
    """Return the mask of a box in pixels."""
    mask = torch.zeros(1, 1, side, side, dtype=torch.bool)
    top, left, bottom, right = box
    mask[..., top:bottom, left:right] = True
    return mask


class RegionMask:
    """The mask of one region, the same for all images or, for classes, each image's own.

    Args:
        region: see `Region`.
        side: side of the images.
        key: the key of the config that has the region.

    Raises:
        UserError: if there is no such region.
    """

    def __init__(self, region: Region, side: int, key: str) -> None:
        self.classes = region["classes"] if isinstance(region, dict) else None
        self._box = None if isinstance(region, dict) else box_mask(box_of(region, side, key), side)

    @property
    def is_fixed(self) -> bool:
        """Whether all images have the same mask."""
        return self._box is not None

    def __call__(self, images: Float[Tensor, "b c h w"], segmenter: Segmenter | None) -> Bool[Tensor, "b 1 h w"]:
        """Return the masks of images in -1..1, without gradients."""
        if self._box is not None:
            return self._box.to(images.device).expand(len(images), -1, -1, -1)
        assert segmenter is not None
        assert self.classes is not None
        return segmenter.mask(images.detach(), self.classes)
