"""What a claim file says (conf/claim/*.yaml), and which runs it is made of."""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

from omegaconf import DictConfig, OmegaConf

from harness.compose import compose_words, composed, parse, plain, variants
from harness.errors import BadInputError, nearest
from harness.identity import changes, digest, run_folder, slug

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


class ClaimRun(NamedTuple):
    """A run of a claim: its arm, what was asked, its config and its folder."""

    arm: str
    words: list[str]
    config: dict[str, Any]
    folder: Path


def command(words: list[str]) -> str:
    """Return the command line of some words, as one types it."""
    return shlex.join(["python", "run.py", *words])


def name_of(words: list[str]) -> str | None:
    """Return which claim a command line asks for."""
    chosen = (o.value() for o in parse(words) if o.key_or_group == "claim" and not o.is_delete())
    return next((str(value) for value in chosen if value is not None), None)


def axes(words: list[str]) -> list[str]:
    """Return the words of a claim's swept keys that the command line leaves open."""
    given = {override.key_or_group for override in parse(words)}
    return [f"{key}={value}" for key, value in _params(tuple(words)).items() if key not in given]


@cache
def _params(words: tuple[str, ...]) -> dict[str, Any]:
    node: Any = OmegaConf.select(compose_words(next(variants(parse(list(words))))), "hydra.sweeper.params")
    return dict(node or {})


def arm_of(words: Iterable[str], arms: Mapping[str, Arm]) -> str | None:
    """Return the arm that a run's words belong to: the one that asks for most of them."""
    said = {_canonical(word) for word in words}
    fitting = [name for name, arm in arms.items() if all(said & _either(word) for word in arm["words"].split())]
    return max(fitting, key=lambda name: len(arms[name]["words"].split()), default=None)


@cache
def _either(word: str) -> set[str]:
    key, _, values = word.partition("=")
    return {_canonical(f"{key}={value}") for value in values.split("|")}


@cache
def _canonical(word: str) -> str:
    """Return a word as Hydra writes it, so that 3e-3 and 0.003 are the same."""
    override = parse([word])[0]
    return f"{override.key_or_group}={override.get_value_element_as_str()}"


def weights_of(side: str | Mapping[str, float]) -> dict[str, float]:
    """Return the weight of each arm in a side of a comparison."""
    return {side: 1.0} if isinstance(side, str) else dict(side)


def runs_of(words: list[str]) -> Iterator[ClaimRun]:
    """Yield the runs of a claim, arm by arm in the order of the claim file, each arm by seed."""
    found: list[ClaimRun] = []
    arms = composed(next(variants(parse(words)))).values["claim"]["arms"]
    for cell in cells([*words, *axes(words)]):
        arm = arm_of(cell, arms)
        if arm is not None:
            values, experiment = (config := composed(cell)).values, config.experiment
            found.append(ClaimRun(arm, cell, values, run_folder(values, experiment, cell)))
    order = list(arms)
    yield from sorted(found, key=lambda run: (order.index(run.arm), run.config["seed"]))


def cells(words: list[str]) -> Iterator[list[str]]:
    """Yield the override words of every combination of the swept values, as Hydra's sweeper makes them."""
    choices = []
    for override in parse(words):
        if override.is_sweep_override():
            choices.append([f"{override.get_key_element()}={v}" for v in override.sweep_string_iterator()])
        else:
            choices.append([override.input_line or ""])
    yield from (list(cell) for cell in product(*choices))


def claim_folder(config: Mapping[str, Any], name: str, words: list[str]) -> Path:
    """Return where a claim's files go: runs/claims/NAME, with the changed words and their hash if there are any."""
    # The hardware group may set the precision, which matters too.
    changed = sorted([*changes(words), *(word for word in words if word.startswith("hardware="))])
    more = f"-{slug(changed)}-{digest(' '.join(changed))[:8]}" if changed else ""
    return Path(config["runs"]).absolute() / "claims" / f"{name}{more}"


def mistakes_of(claim: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield key and complaint for every statement without parts and every arm that is named but not there."""
    arms = claim["arms"]
    for name, statement in claim["statements"].items():
        if not statement["parts"]:
            yield f"claim.statements.{name}", "has no parts, so there is nothing to measure"
        for number, part in enumerate(statement["parts"]):
            sides = [part, *part.get("controls", [])]
            asked = [weights_of(side[role]) for side in sides for role in ("method", "baseline") if role in side]
            for arm in dict.fromkeys(name for weights in asked for name in weights):
                if arm not in arms:
                    yield f"claim.statements.{name}.parts.{number}", f"there is no arm {arm!r}{nearest(arm, arms)}"


def check_claim(words: list[str]) -> DictConfig:
    """Check every run of a claim, and return the composed config of the claim itself.

    Raises:
        BadInputError: with every mistake found.
    """
    from harness.check import check_words

    check_words(words)
    config = check_words([*words, *axes(words)])
    arms = plain(config)["claim"]["arms"]
    if not any(arm_of(cell, arms) for cell in cells([*words, *axes(words)])):
        raise BadInputError(f"claim={name_of(words)}: with these words no run belongs to any of its arms")
    return config
