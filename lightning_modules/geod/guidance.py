"""The paper's contribution: geometry predicted from a generated image guides the geometry that was rendered.

Equation and schedule are those of the author's code (geod §2.5).
"""

from typing import Literal, TypedDict

from jaxtyping import Float
from torch import Tensor

from common.ranges import FractionBelowOne, NonNegativeFloat, PositiveInt
from lightning_modules.geod.inverse.depth_model import PretrainedGeometry
from lightning_modules.geod.inverse.renderer import InverseRenderer, Shape
from networks.cameras import focal_in_pixels, normals_of_depth
from networks.distributed import gather_rows_with_gradient, mean_over_mask, rank, rank_part
from networks.gan.generators3d.volume_rendering import Rendering
from networks.reprojection import resize_depth


class GuidanceOptions(TypedDict):
    """When and how the generator is guided.

    The weight is `gamma_start` before `start_kimg` thousand real images, then rises along a line to `gamma_end` at
    `end_kimg`, and is 0 after `stop_kimg` (null: never). `interval`: generator steps from one guided step to the next.
    `detach_image`: whether the gradient through the image that geometry is predicted from is cut. `shuffle`: the
    control, in which every sample is guided by the geometry predicted from another one. `kind`: normals, or depths
    minus their means. `min_opacity`: pixels count whose rays are stopped by more than this share.
    """

    gamma_start: NonNegativeFloat
    gamma_end: NonNegativeFloat
    start_kimg: NonNegativeFloat
    end_kimg: NonNegativeFloat
    stop_kimg: NonNegativeFloat | None
    interval: PositiveInt
    detach_image: bool
    shuffle: bool
    kind: Literal["normal", "depth"]
    min_opacity: FractionBelowOne


def is_on(options: GuidanceOptions, images_seen: int) -> bool:
    """Return whether the ramp has begun and the end has not come."""
    kimg, stop = images_seen / 1000, options["stop_kimg"]
    return kimg >= options["start_kimg"] and (stop is None or kimg < stop)


def gamma(options: GuidanceOptions, images_seen: int) -> float:
    """Return the weight of the guidance after a number of real images."""
    kimg, start, end = images_seen / 1000, options["start_kimg"], options["end_kimg"]
    if not is_on(options, images_seen):
        return options["gamma_start"] if kimg < start else 0.0
    share = min(1.0, (kimg - start) / (end - start)) if end > start else 1.0
    return options["gamma_start"] + share * (options["gamma_end"] - options["gamma_start"])


def masked_difference(
    one: Float[Tensor, "b h w c"], other: Float[Tensor, "b h w c"], mask: Float[Tensor, "b h w"]
) -> Float[Tensor, ""]:
    """Return the absolute difference, summed over channels, averaged over the mask's pixels in the global batch."""
    return mean_over_mask((one - other).abs().sum(dim=-1), mask)


def guidance_loss(
    depth: Float[Tensor, "b h w"],
    focal: Float[Tensor, " b"],
    shape: Shape,
    *,
    weight: Float[Tensor, "b h w"] | None = None,
    min_opacity: float = 0.0,
    kind: str = "normal",
    shuffle: bool = False,
) -> Float[Tensor, ""]:
    """Return how far rendered geometry is from the geometry that was predicted from the images.

    Args:
        depth: rendered z-depth, at the size of the prediction.
        focal: focal length of the generator's cameras, in pixels of that size.
        shape: what was predicted from the images of the same samples.
        weight: how much of each ray is stopped, at the size of the prediction; None for all.
        min_opacity: pixels count where the weight is above this.
        kind: "normal", or "depth" minus its mean over the mask.
        shuffle: whether each sample is guided by the prediction of the one before it in the global batch.
    """
    predicted, valid = shape.normals, shape.valid
    predicted_depth = shape.depth[: len(depth)]
    if shuffle:
        predicted, valid, predicted_depth = (_of_others(part) for part in (predicted, valid, predicted_depth))
    if weight is not None and min_opacity > 0:
        valid = valid * (weight.detach() > min_opacity)
    if kind == "depth":
        count = valid.sum(dim=(1, 2), keepdim=True).clamp_min(1)
        centered = [d - (d * valid).sum(dim=(1, 2), keepdim=True) / count for d in (depth, predicted_depth)]
        return masked_difference(centered[0][..., None], centered[1][..., None], valid)
    normals = normals_of_depth(depth, focal)
    rendered = (normals.detach() != 0).any(dim=-1).float()
    return masked_difference(normals, predicted, valid * rendered)


def _of_others(rows: Tensor) -> Tensor:
    return gather_rows_with_gradient(rows).roll(1, 0)[rank_part(len(rows), rank())]


def guidance_of_rendering(
    predictor: InverseRenderer | PretrainedGeometry,
    rendering: Rendering,
    camera: Float[Tensor, "b 25"],
    options: GuidanceOptions,
) -> Float[Tensor, ""]:
    """Return how far rendered geometry is from that predicted from the rendered images (geod §2.5).

    Args:
        predictor: what predicts geometry from images.
        rendering: what the generator rendered.
        camera: its cameras.
        options: see `GuidanceOptions`.
    """
    image = rendering.image.detach() if options["detach_image"] else rendering.image
    shape = predictor.predict_shape(image)
    size = shape.valid.shape[-1]
    depth, focal = resize_depth(rendering.depth, size), focal_in_pixels(camera, size)
    weight, least = resize_depth(rendering.weight, size), options["min_opacity"]
    kind, shuffle = options["kind"], options["shuffle"]
    return guidance_loss(depth, focal, shape, weight=weight, min_opacity=least, kind=kind, shuffle=shuffle)
