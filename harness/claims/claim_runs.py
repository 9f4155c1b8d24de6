"""The runs that a claim consists of, and where its own files go."""

import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from common.errors import UserError
from common.hashing import digest
from harness.config.claim_schema import arm_of
from harness.config.compose import composed, plain
from harness.config.identity import changes, run_folder, slug
from harness.config.load import load, load_checked
from harness.config.overrides import cells, parse, variants


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
    node: Any = OmegaConf.select(load(next(variants(parse(list(words))))), "hydra.sweeper.params")
    return dict(node or {})


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


def claim_folder(config: Mapping[str, Any], name: str, words: list[str]) -> Path:
    """Return where a claim's files go: runs/claims/NAME, with the changed words and their hash if there are any."""
    # The hardware group may set the precision, which matters too.
    changed = sorted([*changes(words), *(word for word in words if word.startswith("hardware="))])
    more = f"-{slug(changed)}-{digest(' '.join(changed))[:8]}" if changed else ""
    return Path(config["runs"]).absolute() / "claims" / f"{name}{more}"


def check_claim(words: list[str]) -> DictConfig:
    """Check every run of a claim, and return the composed config of the claim itself.

    Raises:
        UserError: with every mistake found.
    """
    load_checked(words)
    config = load_checked([*words, *axes(words)])
    arms = plain(config)["claim"]["arms"]
    if not any(arm_of(cell, arms) for cell in cells([*words, *axes(words)])):
        raise UserError(f"claim={name_of(words)}: with these words no run belongs to any of its arms")
    return config
