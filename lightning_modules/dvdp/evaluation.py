"""What the test of a diffusion model draws and compares."""

from typing import TypedDict

from metrics.image_distances import ImageDistances
from networks.inception import load_inception
from networks.label_features import load_label_features


class EvaluationOptions(TypedDict):
    """What the test draws and compares.

    `samples` images are drawn with `steps` steps, and again with each number of steps in `curve`; the cost-quality plot
    shows all of these. `features` is a checkpoint of a label network for the Fréchet distance of a procedural world,
    or null. `inception` is the file of Inception weights that FID and KID are computed with, or null. `kid_subset` is
    the size of KID's subsets. `batch` images are drawn at a time.
    """

    samples: int
    steps: int
    curve: list[int]
    batch: int
    features: str | None
    inception: str | None
    kid_subset: int


def build_distances(channels: int, image_size: int, options: EvaluationOptions) -> ImageDistances:
    """Return the distances of the test, without any image yet.

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


def step_counts(options: EvaluationOptions) -> list[int]:
    """Return the numbers of reverse steps that the test draws images with, each once, the main one first."""
    return list(dict.fromkeys([options["steps"], *options["curve"]]))
