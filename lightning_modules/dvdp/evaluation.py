"""What the test of a diffusion model generates and compares."""

from common.ranges import PositiveInt
from lightning_modules.generated_images import DistanceOptions


class EvaluationOptions(DistanceOptions):
    """What the test generates and compares.

    The `samples` are drawn with `steps` steps, and again with each number of steps in `curve_steps`; the cost-quality
    plot shows all of these. `batch_size` images are drawn at a time.
    """

    steps: PositiveInt
    curve_steps: list[PositiveInt]
    batch_size: PositiveInt


def step_counts(options: EvaluationOptions) -> list[int]:
    """Return the numbers of reverse steps that the test draws images with, each once, the main one first."""
    return list(dict.fromkeys([options["steps"], *options["curve_steps"]]))
