"""What a reader has to know next to a verdict: alterations, seeds, ends of grids, changes of the design."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from common.files import read_json
from harness.claims.claim_runs import ClaimRun, claim_changes
from harness.config.claim_design import KINDS
from harness.config.references import dependencies

# A run that was made before its claim, or by itself, has no design in its lock.
_UNKNOWN = "unknown"


def scope(overrides: list[str], config: Mapping[str, Any], seeds: Sequence[int], num_seeds: int) -> str | None:
    """Return in what a claim is not the one of its file, None where it is.

    Args:
        overrides: the command line's.
        config: the composed config of one run.
        seeds: the seeds that were asked for.
        num_seeds: the number of seeds in the claim file.
    """
    pilot = config["claim"].get("pilot_seeds") or []
    if seeds and set(seeds) <= set(pilot):
        return "a pilot, whose seeds decide nothing"
    if config["is_tiny"]:
        return "tiny runs, whose numbers mean nothing"
    if altered := claim_changes(overrides):
        return f"altered by {' '.join(altered)}"
    fewer = len(seeds) < num_seeds
    return f"{len(seeds)} of {num_seeds} seeds" if fewer else None


def unplanned(statements: Iterable[Mapping[str, Any]], num_seeds: int) -> list[str]:
    """Return a line for each statement for which more seeds were planned than there are."""
    return [
        f"{statement['name']}: {num_seeds} seeds, {planned} were planned"
        for statement in statements
        if (planned := statement["seeds_planned"]) and planned > num_seeds
    ]


def one_base(runs: Iterable[ClaimRun]) -> list[str]:
    """Return a line for each reference to a run that all seeds of a claim share."""
    by_seed: dict[int, set[str]] = {}
    for run in runs:
        by_seed.setdefault(run.config["seed"], set()).update(dependencies(run.config))
    if len(by_seed) < 2:
        return []
    shared = sorted(set.intersection(*by_seed.values()))
    return [f"{reference}: one base: seeds vary what comes after" for reference in shared]


def grid_edges(arms: Mapping[str, Any]) -> list[str]:
    """Return a line for each arm whose chosen value is the least or the largest that was tried.

    Args:
        arms: what was chosen for each arm: `key`, `value` and the values that were `tried`, or None.
    """
    lines = []
    for name, chosen in arms.items():
        if chosen and (following := _beyond(chosen["value"], chosen["tried"])):
            lines.append(f"{name}: {chosen['key']}={chosen['value']} is at the edge of what was tried: try {following}")
    return lines


def _beyond(value: str, tried: Iterable[str]) -> str | None:
    """Return the next value of a grid where the best one is its end, None where it is not or is no number."""
    try:
        grid = sorted(map(float, tried))
        best = float(value)
    except ValueError:
        return None
    if len(grid) < 2 or best not in (grid[0], grid[-1]):
        return None
    neighbor = grid[-2] if best == grid[-1] else grid[1]
    evenly = len(grid) > 2 and all(math.isclose(b - a, grid[1] - grid[0]) for a, b in pairwise(grid))
    if grid[0] <= 0 or evenly:
        return f"{2 * best - neighbor:g}"
    # Geometric, as learning rates are, rounded to the one digit that these are written with.
    return f"{float(f'{best * best / neighbor:.1g}'):g}"


def design_marks(present: Mapping[str, Any], runs: Iterable[ClaimRun]) -> dict[str, Any]:
    """Return a claim's digest, in what its design changed after its runs began, and the seeds that were added later.

    Args:
        present: the claim's design now.
        runs: its deciding runs, each with the design of its time in its lock.
    """
    changed: dict[str, set[int]] = {}
    seeds, fewest = set[int](), present["num_seeds"]
    for run in runs:
        lock = read_json(run.folder / "lock.json")
        if lock is None:
            continue
        seeds.add(run.config["seed"])
        before = lock.get("design") or {}
        for kind in _changed(before, present):
            changed.setdefault(kind, set()).add(run.config["seed"])
        fewest = min(fewest, before.get("num_seeds", fewest))
    lines = [f"{kind} changed after {_listed(changed[kind])}" for kind in KINDS if kind in changed]
    if _UNKNOWN in changed:
        lines.append(f"no design was recorded before {_listed(changed[_UNKNOWN])}")
    late = sorted(seed for seed in seeds if seed >= fewest)
    return {"digest": present["digest"], "changed": lines, "seeds_added": late}


def _changed(before: Mapping[str, Any], present: Mapping[str, Any]) -> list[str]:
    """Return what differs in a design that a run has recorded; more seeds alone are no other design."""
    if before.get("claim") != present["claim"]:
        return [_UNKNOWN]
    more = before["num_seeds"] < present["num_seeds"]
    return [kind for kind in KINDS if before[kind] != present[kind] and not (kind == "seeds" and more)]


def _listed(seeds: Iterable[int]) -> str:
    found = sorted(seeds)
    return f"the run{'s' * (len(found) > 1)} of seed{'s' * (len(found) > 1)} {', '.join(map(str, found))}"
