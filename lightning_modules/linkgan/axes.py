"""Groups of axes of w that are linked to regions (§2.1)."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TypedDict

import torch
from jaxtyping import Bool
from torch import Tensor

from common.errors import UserError
from lightning_modules.linkgan.regions import Region


class LinkOptions(TypedDict):
    """A group of axes of w and the region that it is linked to.

    `axes`: first axis and the one after the last; decimals are fractions of w, whole numbers are axes. `region`: see
    `Region`.
    """

    axes: list[float]
    region: Region


def axes_of(axes: Sequence[float], w_dim: int, key: str) -> slice:
    """Return which axes of w a group has.

    Args:
        axes: start and end, as fractions (decimals) or as numbers of axes (whole numbers).
        w_dim: number of axes.
        key: the key of the config that has them.

    Raises:
        UserError: if they are out of range, or none, or all, of which nothing could be linked.
    """
    if len(axes) != 2:
        raise UserError(f"{key} is {list(axes)}, should be the first axis and the one after the last")
    is_numbers = all(isinstance(axis, int) for axis in axes)
    limit = w_dim if is_numbers else 1
    if min(axes) < 0 or max(axes) > limit:
        raise UserError(f"{key} is {list(axes)}, should be within 0 to {limit} ({w_dim} axes)")
    start, stop = (int(axis) if is_numbers else round(axis * w_dim) for axis in axes)
    if start >= stop:
        raise UserError(f"{key} is {list(axes)}: none of {w_dim} axes is in it")
    if stop - start == w_dim:
        raise UserError(f"{key} is {list(axes)}: all {w_dim} axes are in it, so none is left for the other pixels")
    return slice(start, stop)


def linked_axes(links: Mapping[str, LinkOptions], w_dim: int) -> dict[str, slice]:
    """Return the axes of every link.

    Raises:
        UserError: if axes are out of range, or two links share some.
    """
    found = {name: axes_of(link["axes"], w_dim, f"model.links.{name}.axes") for name, link in links.items()}
    ordered = sorted(found, key=lambda name: found[name].start)
    for one, other in pairwise(ordered):
        if found[one].stop > found[other].start:
            raise UserError(
                f"model.links: {one} has axes {found[one].start} to {found[one].stop - 1}, {other} has"
                f" {found[other].start} to {found[other].stop - 1}: groups of axes cannot overlap"
            )
    return found


def axes_mask(axes: slice, w_dim: int, shift: int = 0) -> Bool[Tensor, " w"]:
    """Return which axes of w are in a group, moved on by `shift` axes in a circle."""
    mask = torch.zeros(w_dim, dtype=torch.bool)
    mask[axes] = True
    return mask.roll(shift)
