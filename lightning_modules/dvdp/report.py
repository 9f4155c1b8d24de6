"""The test of a trained model: distances and costs of its samples, and pictures of what it does."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from common.findings import Findings, Table
from lightning_modules.dvdp.costs import macs_of_sampling, macs_of_training
from lightning_modules.dvdp.image_generation import ImageGenerator
from lightning_modules.dvdp.pictures import curve_figure, forward_figure, reverse_figure
from lightning_modules.dvdp.process import Process
from lightning_modules.dvdp.sampler import Sampler
from lightning_modules.generated_images import SHEET_COLUMNS, image_grid
from metrics.image_distances import ImageDistances

DISPLAYED = 64
"""Images on a sheet."""


class SampleMeasurements(NamedTuple):
    """What images drawn with a number of steps are worth.

    Attributes:
        steps: number of reverse steps.
        distances: the distances to the real images by name.
        gmacs: multiply-accumulates of one image, in 1e9.
        seconds: wall time of one image.
        first: the first images of this process [n, c, h, w]; empty if it drew none.
    """

    steps: int
    distances: dict[str, float]
    gmacs: float
    seconds: float
    first: Tensor


def training_costs(process: Process, of_levels: Sequence[float], images_seen: Sequence[int]) -> Findings:
    """Return what training has cost.

    Args:
        process: the process.
        of_levels: multiply-accumulates of a network call at every level.
        images_seen: number of training images at every level.
    """
    return Findings(
        {
            "test/gmacs_training_image": macs_of_training(process, of_levels) / 1e9,
            # Forward passes of all training images, each at the level that it was used at.
            "test/tmacs_training": sum(n * macs for n, macs in zip(images_seen, of_levels, strict=True)) / 1e12,
            "test/images_seen": float(sum(images_seen)),
        }
    )


def measure(
    generator: ImageGenerator,
    sampler: Sampler,
    distances: ImageDistances,
    of_levels: Sequence[float],
    samples: int,
    share: tuple[int, int],
) -> SampleMeasurements:
    """Draw images and compare them with the real ones.

    Args:
        generator: draws the images.
        sampler: the sampler; its number of steps is what is measured.
        distances: the distances, which have seen the real images.
        of_levels: multiply-accumulates of a network call at every level.
        samples: number of images, over all processes.
        share: which process of how many this is; each draws a share.
    """
    distances.forget_generated()
    first, seconds, count = torch.empty(0), 0.0, 0
    began = time.perf_counter()
    for images in generator.images(sampler, samples, share=share):
        if not len(first):
            first = images[:DISPLAYED].cpu()
        if images.is_cuda:
            torch.cuda.synchronize()
        seconds += time.perf_counter() - began
        count += len(images)
        distances.update(images, real=False)
        began = time.perf_counter()
    values = {name: float(value) for name, value in distances.compute().items()}
    gmacs = macs_of_sampling(sampler.visits, of_levels) / 1e9
    return SampleMeasurements(len(sampler.visits), values, gmacs, seconds / max(1, count), first)


def cost_quality(measured: Sequence[SampleMeasurements]) -> Findings:
    """Return metrics and the table of costs and distances; `measured` has the main number of steps first."""
    findings = Findings()
    for part in measured:
        prefix = "test" if part is measured[0] else f"test/steps{part.steps}"
        values = part.distances | {"gmacs": part.gmacs}
        findings.metrics |= {f"{prefix}/{name}": value for name, value in values.items()}
    # Seconds are no metric: a run that was resumed has the same metrics as one that was not.
    rows = sorted((part.steps, part.gmacs, 1e3 * part.seconds, *part.distances.values()) for part in measured)
    columns = ["steps", "GMACs for an image", "ms for an image", *measured[0].distances]
    findings.tables["cost_quality"] = Table(columns, rows)
    if len(rows) > 1:
        distance = next(name for name in ("fid", "fd", "psd_error") if name in measured[0].distances)
        curve = sorted((part.steps, part.gmacs, part.distances[distance]) for part in measured)
        findings.pictures["cost_quality"] = curve_figure(curve, distance)
    return findings


def pictures_of(
    process: Process,
    generator: ImageGenerator,
    sampler: Sampler,
    real: Float[Tensor, "n c h w"],
    generated: Float[Tensor, "n c h w"],
) -> list[tuple[str, Any, str]]:
    """Return name, picture and caption of sheets of generated and real images, and of a forward and a reverse chain."""
    times = sorted({*process.bounds, *(b + 1 for b in process.bounds[1:-1]), process.steps // 20, process.steps // 4})
    forward, reverse = forward_figure(process, real[0], times), reverse_figure(generator.chain(sampler))
    return [
        ("samples", image_grid(generated, columns=SHEET_COLUMNS), f"{len(sampler.visits)} steps"),
        ("real", image_grid(real, columns=SHEET_COLUMNS), "of the test split"),
        ("forward_chain", forward, "x_t; its size is that of its level"),
        ("reverse_chain", reverse, "above x_t, below the estimate of x_0"),
    ]
