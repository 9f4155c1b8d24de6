"""From the finished runs of a claim to its verdicts: claim.json, the page, and what is said on screen."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.files import read_json, write_json
from harness.claims.arm_values import ArmRuns, arm_runs, read_status
from harness.claims.caveats import design_marks, grid_edges, one_base, scope, unplanned
from harness.claims.claim_runs import ClaimRun, claim_folder, command, deciding, name_of, runs_of
from harness.claims.intervals import interval
from harness.claims.statements import judged_statements, tally, verdict_of
from harness.claims.wording import show_claim
from harness.config.claim_design import design_of, planned_seeds
from harness.config.dependency_paths import dependency_folder
from harness.config.references import references

# The packages that a number most likely depends on; each run's lock.json has them all.
_TOLD = (
    "torch",
    "torchvision",
    "pytorch-lightning",
    "numpy",
    "scipy",
    "scikit-learn",
    "timm",
    "diffusers",
    "open_clip_torch",
)


def judge_claim(overrides: list[str], config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list[Path]]]:
    """Return the content of claim.json, and the run folders of each arm that are there.

    Args:
        overrides: the command line's.
        config: the composed config of one run of the claim.
    """
    claim, name = config["claim"], str(name_of(overrides))
    runs = deciding(list(runs_of(overrides)), claim.get("pilot_seeds") or [])
    arms = {arm: arm_runs([run for run in runs if run.arm == arm], claim.get("choose")) for arm in claim["arms"]}
    statements = judged_statements(claim["statements"], arms)
    seeds = sorted({run.config["seed"] for run in runs})
    content = {
        "claim": name,
        **{key: claim[key] for key in ("paper", "text", "substitutes", "runtime")},
        "seeds": seeds,
        "verdict": verdict_of(statements),
        "scope": (altered := scope(overrides, config, seeds, planned_seeds(name))),
        "tally": tally(statements),
        # The sentence is about the claim as its file has it.
        "learned": None if altered else claim.get("learned"),
        "statements": statements,
        "design": design_marks(design_of(name, claim), runs),
        "notes": [
            *unplanned(statements, len(seeds)),
            *one_base(runs),
            *grid_edges({arm: of.chosen for arm, of in arms.items()}),
        ],
        "arms": {arm: _arm(about, arms[arm], claim["columns"]) for arm, about in claim["arms"].items()},
        **{key: claim.get(key) for key in ("columns", "curves", "choose", "scatter", "paper_numbers")},
        "commands": [command(overrides)],
        "cost": _cost(runs),
        "lock": _lock(runs),
    }
    folders = {arm: [run.folder for run in of.runs if run.folder.exists()] for arm, of in arms.items()}
    return content, {arm: existing for arm, existing in folders.items() if existing}


def conclude(overrides: list[str], config: Mapping[str, Any]) -> dict[str, Any]:
    """Judge a claim, write claim.json and report.html, print the verdicts; return the content of claim.json."""
    from harness.claims.report.page import write_report

    content, folders = judge_claim(overrides, config)
    place = claim_folder(config, str(name_of(overrides)), overrides)
    place.mkdir(parents=True, exist_ok=True)
    write_json(place / "claim.json", content)
    write_report(place / "report.html", folders, content, content["commands"])
    show_claim(content)
    print(f"report: {_near(place / 'report.html')}", flush=True)
    return content


def _arm(about: Mapping[str, Any], arm: ArmRuns, columns: Sequence[str]) -> dict[str, Any]:
    values = {key: [of[key] for of in arm.by_seed.values() if key in of] for key in columns}
    costs = {key for of in arm.by_seed.values() for key in of if key.startswith("cost/")}
    return {
        **about,
        "chosen": arm.chosen,
        "runs": [
            {"seed": run.config["seed"], "folder": _near(run.folder), "status": read_status(run)} for run in arm.runs
        ],
        "metrics": {key: summary(found) for key, found in values.items() if found},
        "cost": {
            key.removeprefix("cost/"): statistics.fmean(of[key] for of in arm.by_seed.values() if key in of)
            for key in sorted(costs)
        },
    }


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Return mean, standard deviation and 95 % interval of some values; the last two are None where there is none."""
    bounds = interval(values)
    return {
        "mean": statistics.fmean(values),
        "sd": statistics.stdev(values) if bounds else None,
        "interval": bounds and list(bounds),
        "values": list(values),
    }


def _cost(runs: Iterable[ClaimRun]) -> dict[str, Any]:
    """Return the seconds and the number of all finished runs, those that they needed included."""
    folders = {run.folder for run in runs}
    for run in runs:
        folders |= {dependency_folder(name, run.config).path for name in references(run.config["model"])}
    costs = [result["cost"] for folder in folders if (result := read_json(folder / "result.json"))]
    seconds = sum(cost["seconds"] + cost["test_seconds"] for cost in costs)
    return {"seconds": round(seconds, 1), "runs": len(costs)}


def _lock(runs: Iterable[ClaimRun]) -> dict[str, Any]:
    """Return what the last run was made of, and every commit and machine that a run is from."""
    locks = [lock for run in runs if (lock := read_json(run.folder / "lock.json"))]
    if not locks:
        return {}
    last = locks[-1]
    return {
        "code": last["code"],
        "commits": sorted({str(lock["code"]["commit"]) for lock in locks}),
        "python": last["python"],
        "packages": {name: last["packages"][name] for name in _TOLD if name in last["packages"]},
        "hardware": last["hardware"],
        "data": sorted({str(lock["data"]) for lock in locks}),
    }


def _near(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
