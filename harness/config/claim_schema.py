"""What a claim file contains (conf/claim/*.yaml), and which of its arms a run belongs to."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Literal, NotRequired, TypedDict

from harness.config.overrides import parse

# An arm by its name, or a weighted sum of arms.
Side = str | dict[str, float]


class Arm(TypedDict):
    """One of the compared settings: the overrides that choose it among the swept ones, and what it is.

    `key=a|b` takes either value; for a seed, the arm's value is the mean over such runs.
    """

    overrides: str
    description: str


class Control(TypedDict):
    """A comparison that lacks the cause; what is left out is as in the part that it controls.

    Where the method's gain over it is wholly below `margin` (half of the part's `min_effect` unless given), it turns
    *holds* into *fails*.
    """

    name: str
    method: NotRequired[Side]
    metric: NotRequired[str]
    baseline: NotRequired[Side]
    baseline_metric: NotRequired[str]
    margin: NotRequired[float]


class Part(TypedDict):
    """A metric of the method's arm against a metric (the same, if none is given) of the baseline's arm.

    `min_effect` is the gate. A part of a limit has a `margin` instead: how far from zero, or from the `ceiling`, the
    effect may lie. `ceiling` is the largest effect that this world allows: a number in the metric's units, or the arm
    that reaches it. `deterministic` parts are the same for every seed: counts, sizes, round trips.
    """

    text: NotRequired[str]
    method: Side
    metric: str
    baseline: Side
    baseline_metric: NotRequired[str]
    direction: Literal["up", "down"]
    min_effect: NotRequired[float]
    margin: NotRequired[float]
    ceiling: NotRequired[float | str | dict[str, float]]
    deterministic: NotRequired[bool]
    controls: NotRequired[list[Control]]


class Statement(TypedDict):
    """One thing that is said, as one or more comparisons that all have to hold.

    `role` says who says it: `paper` (with its `source`), or we, of a part of the method (`ablation`), of where the
    effect ends (`limit`) or of whether the experiment can show anything (`sanity`, which `guards` statements of the
    paper, all unless given). `seeds_planned` is the number of seeds that the pilot asked for.
    """

    role: Literal["paper", "ablation", "limit", "sanity"]
    text: str
    source: NotRequired[str]
    guards: NotRequired[list[str]]
    seeds_planned: NotRequired[int]
    parts: list[Part]


class Choice(TypedDict):
    """A swept key whose value is chosen for each arm by a validation metric, as a mean over the arm's runs."""

    key: str
    by: str
    direction: Literal["up", "down"]


class Scatter(TypedDict):
    """Two metrics of the arms against each other; `cost/...` are metrics too."""

    x: str
    y: str


class PaperNumbers(TypedDict):
    """Numbers of the paper itself, shown apart from ours."""

    source: str
    columns: list[str]
    rows: list[list[str | int | float | None]]


class Claim(TypedDict):
    """The content of `claim` in a claim file."""

    paper: str
    text: str
    substitutes: str
    runtime: str
    learned: NotRequired[str | None]
    pilot_seeds: NotRequired[list[int]]
    arms: dict[str, Arm]
    statements: dict[str, Statement]
    columns: list[str]
    curves: list[str]
    choose: NotRequired[Choice | None]
    scatter: NotRequired[Scatter | None]
    paper_numbers: NotRequired[PaperNumbers | None]


def arm_of(overrides: Iterable[str], arms: Mapping[str, Arm]) -> str | None:
    """Return the arm that a run's overrides belong to: the one that asks for most of them."""
    given = {canonical(override) for override in overrides}
    matching = [
        name for name, arm in arms.items() if all(given & alternatives(wanted) for wanted in arm["overrides"].split())
    ]
    return max(matching, key=lambda name: len(arms[name]["overrides"].split()), default=None)


@cache
def alternatives(wanted: str) -> frozenset[str]:
    """Return the overrides that `key=a|b` stands for."""
    key, _, values = wanted.partition("=")
    return frozenset(canonical(f"{key}={value}") for value in values.split("|"))


@cache
def canonical(text: str) -> str:
    """Return an override as Hydra writes it, so that 3e-3 and 0.003 are the same."""
    override = parse([text])[0]
    return f"{override.key_or_group}={override.get_value_element_as_str()}"


def weights_of(side: str | Mapping[str, float]) -> dict[str, float]:
    """Return the weight of each arm in a side of a comparison."""
    return {side: 1.0} if isinstance(side, str) else dict(side)
