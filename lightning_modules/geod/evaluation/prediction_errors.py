"""Errors of geometry that is predicted from images whose geometry is known, next to simpler predictions."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lightning_modules.geod.evaluation.depth_metrics import MeanMetrics, eroded, mad, side
from lightning_modules.geod.inverse.renderer import Shape
from networks.cameras import focal_in_pixels, normals_of_depth
from networks.reprojection import resize_depth

_MAX_IMAGES = 2048


def mean_depth(source: Any) -> Float[Tensor, "h w"] | None:
    """Return the mean depth at every pixel over up to 2048 images, None where depth is not known."""
    count = min(len(source), _MAX_IMAGES)
    if "depth" not in source[0]:
        return None
    return torch.stack([torch.as_tensor(source[k]["depth"]) for k in range(count)]).mean(dim=0)


class PredictionErrors(nn.Module):
    """MAD (degrees) and SIDE (times 100) inside the object: of predictions, of the mean shape, and of a flat face.

    Args:
        mean: the mean depth of the training images.
    """

    mean: Tensor

    def __init__(self, mean: Float[Tensor, "h w"]) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        names = ("ir", "mean_shape", "flat")
        self.metrics = MeanMetrics([f"{name}_{kind}" for name in names for kind in ("mad", "side")])

    def update(self, batch: Mapping[str, Any], shape: Shape | None) -> None:
        """Add images whose depth is known, and the shape that was predicted from them, if any."""
        truth = batch["depth"]
        size = truth.shape[-1]
        focal = focal_in_pixels(batch["camera"], size)
        normals, inside = normals_of_depth(truth, focal), eroded(batch["mask"].float())
        mean = self.mean.expand_as(truth)
        predictions = {"mean_shape": (mean, inside), "flat": (torch.full_like(truth, float(self.mean.mean())), inside)}
        if shape is not None:
            valid = resize_depth(shape.valid, size) > 0.99
            predictions["ir"] = (resize_depth(shape.depth[: len(truth)], size), inside * eroded(valid.float()))
        for name, (depth, mask) in predictions.items():
            errors = {
                "mad": mad(normals_of_depth(depth, focal), normals, mask),
                "side": side(depth, truth, mask),
            }
            for kind, values in errors.items():
                self.metrics[f"{name}_{kind}"].update(values[values.isfinite()])

    def compute(self) -> dict[str, Tensor]:
        """Return the errors over all processes, and start over."""
        errors = {}
        for name in self.metrics:
            metric = self.metrics[name]
            if metric.update_called:
                errors[name] = metric.compute()
                metric.reset()
        return errors
