"""The runs that a claim consists of, and where its own files go."""

import shlex
from collections.abc import Iterable, Iterator, Mapping
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
    overrides: list[str]
    config: dict[str, Any]
    folder: Path


def command(overrides: list[str]) -> str:
    """Return a command line with some overrides, as one types it."""
    return shlex.join(["python", "run.py", *overrides])


def name_of(overrides: list[str]) -> str | None:
    """Return which claim a command line asks for."""
    chosen = (o.value() for o in parse(overrides) if o.key_or_group == "claim" and not o.is_delete())
    return next((str(value) for value in chosen if value is not None), None)


def axes(overrides: list[str]) -> list[str]:
    """Return the overrides of a claim's swept keys that the command line leaves open."""
    given = {override.key_or_group for override in parse(overrides)}
    return [f"{key}={value}" for key, value in _params(tuple(overrides)).items() if key not in given]


@cache
def _params(overrides: tuple[str, ...]) -> dict[str, Any]:
    node: Any = OmegaConf.select(load(next(variants(parse(list(overrides))))), "hydra.sweeper.params")
    return dict(node or {})


def runs_of(overrides: list[str]) -> Iterator[ClaimRun]:
    """Yield the runs of a claim, arm by arm in the order of the claim file, each arm by seed."""
    found: list[ClaimRun] = []
    arms = composed(next(variants(parse(overrides)))).values["claim"]["arms"]
    for cell in cells([*overrides, *axes(overrides)]):
        arm = arm_of(cell, arms)
        if arm is not None:
            values, experiment = (config := composed(cell)).values, config.experiment
            found.append(ClaimRun(arm, cell, values, run_folder(values, experiment, cell)))
    order = list(arms)
    yield from sorted(found, key=lambda run: (order.index(run.arm), run.config["seed"]))


def deciding(runs: Iterable[ClaimRun], pilot_seeds: Iterable[int]) -> list[ClaimRun]:
    """Return the runs that decide a claim: those of no pilot seed, unless all are."""
    every, pilot = list(runs), set(pilot_seeds)
    return [run for run in every if run.config["seed"] not in pilot] or every


def claim_folder(config: Mapping[str, Any], name: str, overrides: list[str]) -> Path:
    """Return where a claim's files go: runs/claims/NAME, with the changed overrides and their hash if there are any."""
    changed = claim_changes(overrides)
    more = f"-{slug(changed, {})}-{digest(' '.join(changed))[:8]}" if changed else ""
    return Path(config["runs"]).absolute() / "claims" / f"{name}{more}"


def claim_changes(overrides: list[str]) -> list[str]:
    """Return the overrides that can change a claim's result."""
    # The hardware group may set the precision, which matters too.
    own = [override for override in overrides if override.lstrip("+~").startswith(("hardware=", "claim."))]
    return sorted([*changes(overrides), *own])


def check_claim(overrides: list[str]) -> DictConfig:
    """Check every run of a claim, and return the composed config of the claim itself.

    Raises:
        UserError: with every error found.
    """
    load_checked(overrides)
    config = load_checked([*overrides, *axes(overrides)])
    arms = plain(config)["claim"]["arms"]
    if not any(arm_of(cell, arms) for cell in cells([*overrides, *axes(overrides)])):
        raise UserError(f"claim={name_of(overrides)}: with these overrides no run belongs to any of its arms")
    return config
