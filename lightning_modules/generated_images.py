"""What the tests of all image generators share: distances to real images, shares of the processes, and sheets."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypedDict, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torchvision.utils import make_grid

from common.ranges import PositiveInt
from metrics.image_distances import ImageDistances
from networks.inception import load_inception
from networks.label_features import load_label_features

Pixels = NDArray[np.uint8]
# Images in a row of a sheet.
SHEET_COLUMNS = 8
_Item = TypeVar("_Item")


class DistanceOptions(TypedDict):
    """How many images a test generates, and how it compares them with real ones.

    `samples`: number of generated images. `features`: a checkpoint of a label network for the Fréchet distance of a
    procedural world, or null. `inception`: the file of Inception weights that FID and KID are computed with, or null.
    `kid_subset`: the size of KID's subsets.
    """

    samples: PositiveInt
    features: str | None
    inception: str | None
    kid_subset: PositiveInt


def build_distances(channels: int, image_size: int, options: DistanceOptions) -> ImageDistances:
    """Return the distances of a test, without any image yet.

    Args:
        channels: channels of the images.
        image_size: side of the images.
        options: see `DistanceOptions`.

    Raises:
        UserError: if weights are missing, or there are fewer images than KID needs.
    """
    return ImageDistances(
        channels,
        image_size,
        options["samples"],
        features=load_label_features(options["features"], channels),
        inception=load_inception(options["inception"]),
        kid_subset=options["kid_subset"],
    )


def absent_distances(options: DistanceOptions) -> list[str]:
    """Return a line for a test that has no network to compare images by, none otherwise."""
    if options["features"] or options["inception"]:
        return []
    line = (
        "not measured: test/fd and test/fid, as model.evaluation.features (a label network of these data) and"
        " model.evaluation.inception (Inception's weights) are null"
    )
    return [line]


def distance_checks(channels: int, image_size: int, options: DistanceOptions) -> Iterator[Callable[[], object]]:
    """Yield the readings of the files that `build_distances` needs, each by itself, with its arguments."""
    yield lambda: load_label_features(options["features"], channels)
    yield lambda: build_distances(channels, image_size, {**options, "features": None})


def rank_share(items: Sequence[_Item], rank: int, world_size: int) -> Sequence[_Item]:
    """Return the items that a process works on: every `world_size`-th, from the `rank`-th on."""
    return items[rank::world_size]


def image_grid(
    rows: Sequence[Float[Tensor, "n c h w"]] | Float[Tensor, "n c h w"], *, columns: int | None = None, side: int = 0
) -> Pixels:
    """Return images as one picture uint8 [h, w, 3], with white lines between them.

    Args:
        rows: images in -1..1 of any sides, in rows of equal length, or all images as one tensor.
        columns: images in a row; as many as the first of `rows` has unless given.
        side: images are enlarged (nearest pixel) to the largest of this and of their sides.
    """
    parts = [part.float().cpu() for part in ([rows] if isinstance(rows, Tensor) else rows)]
    side = max(side, *(part.shape[-1] for part in parts))
    resized = [functional.interpolate(part, (side, side), mode="nearest") for part in parts]
    grid = make_grid((torch.cat(resized).clamp(-1, 1) + 1) / 2, nrow=columns or len(parts[0]), padding=2, pad_value=1.0)
    return (grid * 255).round().byte().permute(1, 2, 0).numpy()
