"""Errors of generated geometry: against the oracle's normals of the same images, and against other views (§6.1)."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lightning_modules.geod.evaluation.depth_metrics import MeanMetrics, eroded, mad
from lightning_modules.geod.evaluation.oracle import NormalOracle, NormalPrediction, load_oracle
from lightning_modules.geod.inverse.depth_model import PretrainedGeometry, PretrainedOptions
from networks.cameras import focal_in_pixels, normals_of_depth
from networks.gan.generators3d.interface import Generator3D
from networks.gan.generators3d.volume_rendering import Rendering
from networks.reprojection import reproject, reprojection_error


class Group(NamedTuple):
    """Generated images of one pose: the rendering, its cameras [k, 25], and the same objects at another pose."""

    rendering: Rendering
    camera: Tensor
    other: Rendering
    other_camera: Tensor


Oracle = NormalOracle | PretrainedGeometry
"""What predicts normals from images, for evaluation."""


def build_oracle(path: str | None, options: PretrainedOptions, size: int) -> Oracle | None:
    """Return the frozen network that predicts the normals of generated images, None for none.

    Args:
        path: a checkpoint of the oracle, or the folder of a depth model of transformers; None for none.
        options: of the depth model, but for its path.
        size: side of the depth model's prediction.

    Raises:
        UserError: if the file is missing or of another kind.
    """
    if path is None:
        return None
    if Path(path).is_dir():
        return PretrainedGeometry({**options, "path": path}, size)
    return load_oracle(path)


def predict_normals(oracle: Oracle, image: Float[Tensor, "b 3 h w"]) -> NormalPrediction:
    """Return the normals that an oracle predicts from images."""
    if isinstance(oracle, NormalOracle):
        return oracle.predict(image)
    shape = oracle.predict_shape(image)
    return NormalPrediction(shape.normals, shape.valid)


class GeometryErrors(nn.Module):
    """Errors of generated geometry, summed over groups of images that share a pose.

    `oracle_mad`: mean angle, in degrees, between the normals of the rendered depth and those that the oracle predicts
    from the same image. `specificity`: how much larger that angle is when the depth is another sample's; 0 if all
    samples have one shape. `specificity_inside`: the same over the pixels that are inside both samples, so that
    outlines do not count. `covered`: share of the object at which rays are stopped; what they pass through is not
    measured. `reprojection`: mean absolute difference of an image (-1..1) and another view of it, carried over.

    Args:
        oracle: what predicts normals from images, or None; frozen.
        ray_length: length of the generator's rays.
    """

    def __init__(self, oracle: Oracle | None, ray_length: float) -> None:
        super().__init__()
        self.oracle, self.ray_length = oracle, ray_length
        names = [
            "reprojection",
            *(["oracle_mad", "specificity", "specificity_inside", "covered"] if oracle is not None else []),
        ]
        self.metrics = MeanMetrics(names)

    def update(self, group: Group) -> None:
        """Add a group."""
        raw = group.rendering.raw
        other, camera, depth = group.other, group.camera, group.rendering.depth
        warped, mask = reproject(other.raw, depth, camera, other.depth, group.other_camera, self.ray_length)
        self.metrics["reprojection"].update(reprojection_error(raw, warped, mask))
        if self.oracle is not None:
            self._compare(group, predict_normals(self.oracle, raw))

    def _compare(self, group: Group, predicted: NormalPrediction) -> None:
        size = group.rendering.raw.shape[-1]
        normals = normals_of_depth(group.rendering.depth, focal_in_pixels(group.camera, size))
        is_stopped = group.rendering.weight > 0.5
        # A pixel counts where there is an object, and where rays were stopped.
        inside = eroded(predicted.mask) * eroded(is_stopped.float())
        covered = (predicted.mask * is_stopped).sum(dim=(1, 2)) / predicted.mask.sum(dim=(1, 2)).clamp_min(1)
        self.metrics["covered"].update(covered)
        own = mad(predicted.normals, normals, inside)
        excess, excess_inside = [], []
        for k in range(1, len(normals)):
            others, both = normals.roll(k, 0), inside * inside.roll(k, 0)
            excess.append(mad(predicted.normals, others, inside) - own)
            excess_inside.append(mad(predicted.normals, others, both) - mad(predicted.normals, normals, both))
        values = {"oracle_mad": own, "specificity": torch.cat(excess), "specificity_inside": torch.cat(excess_inside)}
        for name, value in values.items():
            finite = value[value.isfinite()]
            if len(finite):
                self.metrics[name].update(finite)

    def compute(self) -> dict[str, Tensor]:
        """Return the errors over all processes, and start over."""
        errors = {name: self.metrics[name].compute() for name in self.metrics}
        for name in self.metrics:
            self.metrics[name].reset()
        return errors


@torch.no_grad()
def draw_groups(
    generator: Generator3D, cameras: Float[Tensor, "g 2 25"], per_pose: int, seeds: list[int]
) -> Iterator[Group]:
    """Yield groups of `images_per_pose` samples, each group seen by two cameras; draws depend on its seed alone."""
    for pair, seed in zip(cameras, seeds, strict=True):
        noise = torch.Generator().manual_seed(seed)
        z = torch.randn(per_pose, generator.z_dim, generator=noise).to(pair.device)
        camera, other = (one.expand(per_pose, -1) for one in pair)
        field = generator.field(z, camera, "const")
        rendering, turned = (generator.render(field, view, jitter=None) for view in (camera, other))
        yield Group(rendering, camera, turned, other)
