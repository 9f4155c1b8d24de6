"""How the learning rate moves, counted in optimizer steps."""

from collections.abc import Callable
from typing import Literal, TypedDict

from common.ranges import Fraction, NonNegativeInt, PositiveFloat
from lightning_modules.optimization import one_cycle


class ScheduleOptions(TypedDict):
    """How the learning rate moves.

    `one_cycle`: up for `warmup_ratio` of the steps, from 1/25 of the peak, then down to almost nothing, along cosines.
    `steps`: a straight warm-up of `warmup_steps`, then times `gamma` at each of the `milestones`.
    """

    name: Literal["one_cycle", "steps"]
    warmup_ratio: Fraction
    warmup_steps: NonNegativeInt
    milestones: list[NonNegativeInt]
    gamma: PositiveFloat


def build_schedule(options: ScheduleOptions, total: int, restart: int) -> Callable[[int], float]:
    """Return what to multiply the peak learning rate by at an optimizer step.

    Args:
        options: see `ScheduleOptions`.
        total: optimizer steps of the whole training.
        restart: step at which a second stage begins; one cycle is run before it and one after it. 0: one cycle in all.
    """

    def cycles(step: int) -> float:
        if step < restart:
            return one_cycle(step, restart, options["warmup_ratio"])
        return one_cycle(step - restart, total - restart, options["warmup_ratio"])

    def steps(step: int) -> float:
        warm = min(1.0, step / options["warmup_steps"]) if options["warmup_steps"] else 1.0
        return float(warm * options["gamma"] ** sum(step >= milestone for milestone in options["milestones"]))

    return cycles if options["name"] == "one_cycle" else steps
