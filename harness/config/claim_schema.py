"""What a claim file contains (conf/claim/*.yaml), and which of its arms a run belongs to."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Literal, NotRequired, TypedDict

from common.errors import suggestion
from harness.config.overrides import parse

# An arm by its name, or a weighted sum of arms.
Side = str | dict[str, float]


class Arm(TypedDict):
    """One of the compared settings: the words that choose it among the swept ones, and what it is.

    `key=a|b` takes either value; for a seed, the arm's value is the mean over such runs.
    """

    words: str
    about: str


class Control(TypedDict):
    """A comparison that must not reach the method's gain; what is left out is as in the part that it controls."""

    name: str
    method: NotRequired[Side]
    metric: NotRequired[str]
    baseline: NotRequired[Side]
    baseline_metric: NotRequired[str]


class Part(TypedDict):
    """A metric of the method's arm against a metric (the same, if none is given) of the baseline's arm."""

    text: NotRequired[str]
    method: Side
    metric: str
    baseline: Side
    baseline_metric: NotRequired[str]
    direction: Literal["up", "down"]
    least: float
    controls: NotRequired[list[Control]]


class Statement(TypedDict):
    """One thing that the paper says, as one or more comparisons that all have to hold."""

    text: str
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
    stand_in: str
    takes: str
    arms: dict[str, Arm]
    statements: dict[str, Statement]
    columns: list[str]
    curves: list[str]
    choose: NotRequired[Choice | None]
    scatter: NotRequired[Scatter | None]
    paper_numbers: NotRequired[PaperNumbers | None]


def arm_of(overrides: Iterable[str], arms: Mapping[str, Arm]) -> str | None:
    """Return the arm that a run's overrides belong to: the one that asks for most of them."""
    given = {_canonical(override) for override in overrides}
    fitting = [name for name, arm in arms.items() if all(given & _either(wanted) for wanted in arm["words"].split())]
    return max(fitting, key=lambda name: len(arms[name]["words"].split()), default=None)


@cache
def _either(wanted: str) -> set[str]:
    key, _, values = wanted.partition("=")
    return {_canonical(f"{key}={value}") for value in values.split("|")}


@cache
def _canonical(text: str) -> str:
    """Return an override as Hydra writes it, so that 3e-3 and 0.003 are the same."""
    override = parse([text])[0]
    return f"{override.key_or_group}={override.get_value_element_as_str()}"


def weights_of(side: str | Mapping[str, float]) -> dict[str, float]:
    """Return the weight of each arm in a side of a comparison."""
    return {side: 1.0} if isinstance(side, str) else dict(side)


def errors_in_claim(claim: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield key and error for every statement without parts and every arm that is named but does not exist."""
    arms = claim["arms"]
    for name, statement in claim["statements"].items():
        if not statement["parts"]:
            yield f"claim.statements.{name}", "has no parts, so there is nothing to measure"
        for number, part in enumerate(statement["parts"]):
            sides = [part, *part.get("controls", [])]
            asked = [weights_of(side[role]) for side in sides for role in ("method", "baseline") if role in side]
            for arm in dict.fromkeys(name for weights in asked for name in weights):
                if arm not in arms:
                    yield f"claim.statements.{name}.parts.{number}", f"there is no arm {arm!r}{suggestion(arm, arms)}"
