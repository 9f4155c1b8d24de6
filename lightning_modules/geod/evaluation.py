"""How good generated geometry is: held against what an oracle sees in the generated images (spec, section 6)."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lightning_modules.geod.depth_metrics import MeanMetrics, eroded, mad
from lightning_modules.geod.geometry import normals_of_depth
from lightning_modules.geod.guidance import reproject, reprojection_error
from lightning_modules.geod.oracle import NormalOracle, Seen, load_oracle
from lightning_modules.geod.players import Generator
from lightning_modules.geod.poses import focal_in_pixels
from lightning_modules.geod.pretrained import PretrainedGeometry, PretrainedOptions
from networks.volume_rendering import Rendering


class EvaluationOptions(TypedDict):
    """What the test draws and compares.

    `samples`: generated images; `per_pose` of them, at least 2, share a pose. `validation_samples`: those of a
    validation. `oracle`: a checkpoint of the oracle of rendered heads, or the folder of a depth model of transformers,
    or null. `features`, `inception`, `kid_subset`: see `ImageDistances`.
    """

    samples: int
    per_pose: int
    validation_samples: int
    oracle: str | None
    features: str | None
    inception: str | None
    kid_subset: int


class Group(NamedTuple):
    """Generated images of one pose: the rendering, its cameras [k, 25], and the same objects at another pose."""

    rendering: Rendering
    camera: Tensor
    other: Rendering
    other_camera: Tensor


# What says which normals an image shows.
Oracle = NormalOracle | PretrainedGeometry


def build_oracle(path: str | None, options: PretrainedOptions, size: int) -> Oracle | None:
    """Return the frozen network that says what normals an image shows, None for none."""
    if path is None:
        return None
    if Path(path).is_dir():
        return PretrainedGeometry({**options, "path": path}, size)
    return load_oracle(path)


def look(oracle: Oracle, image: Float[Tensor, "b 3 h w"]) -> Seen:
    """Return what an oracle sees in images."""
    if isinstance(oracle, NormalOracle):
        return oracle.shape(image)
    shape = oracle.shape(image)
    return Seen(shape.normals, shape.valid)


class GeometryErrors(nn.Module):
    """Errors of generated geometry, summed over groups of images that share a pose.

    `oracle_mad`: mean angle, in degrees, between the normals of the rendered depth and those that the oracle sees in
    the same image. `specificity`: how much larger that angle is when the depth is another sample's; 0 if all samples
    have one shape. `specificity_inside`: the same over the pixels that are inside both samples, so that outlines do
    not tell. `covered`: share of the object that rays are stopped at; what they pass through is not judged.
    `reprojection`: mean absolute difference of an image (-1..1) and another view of it, carried over.

    Args:
        oracle: what says which normals an image shows, or None; frozen.
        reach: length of the generator's rays.
    """

    def __init__(self, oracle: Oracle | None, reach: float) -> None:
        super().__init__()
        self.oracle, self.reach = oracle, reach
        names = [
            "reprojection",
            *(["oracle_mad", "specificity", "specificity_inside", "covered"] if oracle is not None else []),
        ]
        self.metrics = MeanMetrics(names)

    def update(self, group: Group) -> None:
        """Add a group."""
        raw = group.rendering.raw
        other, camera, depth = group.other, group.camera, group.rendering.depth
        found, mask = reproject(other.raw, depth, camera, other.depth, group.other_camera, self.reach)
        self.metrics["reprojection"].update(reprojection_error(raw, found, mask))
        if self.oracle is None:
            return
        seen = look(self.oracle, raw)
        size = raw.shape[-1]
        normals = normals_of_depth(group.rendering.depth, focal_in_pixels(group.camera, size))
        # A pixel counts where there is an object, and where rays were stopped.
        inside = eroded(seen.mask) * eroded((group.rendering.weight > 0.5).float())
        count = len(raw)
        covered = (seen.mask * (group.rendering.weight > 0.5)).sum(dim=(1, 2)) / seen.mask.sum(dim=(1, 2)).clamp_min(1)
        self.metrics["covered"].update(covered)
        own = mad(seen.normals, normals, inside)
        more, more_inside = [], []
        for k in range(1, count):
            others, both = normals.roll(k, 0), inside * inside.roll(k, 0)
            more.append(mad(seen.normals, others, inside) - own)
            more_inside.append(mad(seen.normals, others, both) - mad(seen.normals, normals, both))
        values = {"oracle_mad": own, "specificity": torch.cat(more), "specificity_inside": torch.cat(more_inside)}
        for name, value in values.items():
            known = value[value.isfinite()]
            if len(known):
                self.metrics[name].update(known)

    def compute(self) -> dict[str, Tensor]:
        """Return the errors over all processes, and start over."""
        found = {name: self.metrics[name].compute() for name in self.metrics}
        for name in self.metrics:
            self.metrics[name].reset()
        return found


@torch.no_grad()
def draw_groups(
    generator: Generator, cameras: Float[Tensor, "g 2 25"], per_pose: int, seeds: list[int]
) -> Iterator[Group]:
    """Yield groups of `per_pose` samples, each group seen by two cameras; what is drawn depends on its seed alone."""
    for pair, seed in zip(cameras, seeds, strict=True):
        noise = torch.Generator().manual_seed(seed)
        z = torch.randn(per_pose, generator.z_dim, generator=noise).to(pair.device)
        camera, other = (one.expand(per_pose, -1) for one in pair)
        field = generator.field(z, camera, "const")
        rendering, turned = (generator.render(field, seen, jitter=False) for seen in (camera, other))
        yield Group(rendering, camera, turned, other)
