"""From the finished runs of a claim to its verdicts: claim.json, the page, and what is said on screen."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.errors import suggestion
from common.files import read_json, write_json
from harness.claims.arm_values import ArmRuns, arm_runs, read_status, side_name, side_values
from harness.claims.claim_runs import ClaimRun, claim_folder, command, name_of, runs_of
from harness.claims.verdict import Judgement, interval, judge, judge_control, with_controls, worst
from harness.config.claim_schema import Part, weights_of
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

Arms = Mapping[str, ArmRuns]


def judge_claim(overrides: list[str], config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list[Path]]]:
    """Return the content of claim.json, and the run folders of each arm that are there.

    Args:
        overrides: the command line's.
        config: the composed config of one run of the claim.
    """
    claim, runs = config["claim"], list(runs_of(overrides))
    arms = {name: arm_runs([run for run in runs if run.arm == name], claim.get("choose")) for name in claim["arms"]}
    statements = [_statement(name, said, arms) for name, said in claim["statements"].items()]
    content = {
        "claim": name_of(overrides),
        **{key: claim[key] for key in ("paper", "text", "stand_in", "takes")},
        "seeds": sorted({run.config["seed"] for run in runs}),
        "verdict": worst(statement["verdict"] for statement in statements),
        "statements": statements,
        "arms": {name: _arm(about, arms[name], claim["columns"]) for name, about in claim["arms"].items()},
        **{key: claim.get(key) for key in ("columns", "curves", "choose", "scatter", "paper_numbers")},
        "commands": [command(overrides)],
        "cost": _cost(runs),
        "lock": _lock(runs),
    }
    folders = {name: [run.folder for run in arm.runs if run.folder.exists()] for name, arm in arms.items()}
    return content, {name: there for name, there in folders.items() if there}


def conclude(overrides: list[str], config: Mapping[str, Any]) -> dict[str, Any]:
    """Judge a claim, write claim.json and report.html, print the verdicts; return the content of claim.json."""
    from harness.claims.report.page import write_report

    content, folders = judge_claim(overrides, config)
    place = claim_folder(config, str(name_of(overrides)), overrides)
    place.mkdir(parents=True, exist_ok=True)
    write_json(place / "claim.json", content)
    write_report(place / "report.html", folders, content, content["commands"])
    _show(content, place)
    return content


def _statement(name: str, said: Mapping[str, Any], arms: Arms) -> dict[str, Any]:
    parts = [_part(part, arms) for part in said["parts"]]
    first, verdict = parts[0], worst(part["verdict"] for part in parts)
    to_blame = next(part for part in parts if part["verdict"] == verdict)
    reason = f"{to_blame['text'] or 'the comparison'}: {to_blame['reason']}" if len(parts) > 1 else first["reason"]
    return {
        "name": name,
        "text": said["text"],
        "metric": first["metric"],
        "verdict": verdict,
        "reason": "every part holds" if verdict == "holds" and len(parts) > 1 else reason,
        "effect": first["effect"],
        "interval": first["interval"],
        "arms": list(
            dict.fromkeys(name for p in said["parts"] for s in (p["method"], p["baseline"]) for name in weights_of(s))
        ),
        "parts": parts,
    }


def _part(part: Part, arms: Arms) -> dict[str, Any]:
    whole: dict[str, Any] = {"text": "", "baseline_metric": part["metric"], "controls": [], **part}
    pairs = _pairs(whole, arms)
    gains = _gains(pairs, part["direction"])
    judged, controls = judge(list(gains.values()), part["least"]), []
    if not gains and (unknown := _unknown_metric(whole, arms)):
        judged = judged._replace(reason=unknown)
    for control in whole["controls"]:
        side = {key: control.get(key, whole[key]) for key in ("method", "metric", "baseline", "baseline_metric")}
        own = _gains(_pairs(side, arms), part["direction"])
        both = [seed for seed in gains if seed in own]
        verdict = judge_control([gains[seed] for seed in both], [own[seed] for seed in both])
        controls.append(({"name": control["name"], **_named(side), **_plain(verdict)}, verdict))
    judged = with_controls(judged, [(content["name"], verdict) for content, verdict in controls])
    return {
        **_named(whole),
        "seeds": list(pairs),
        "method_values": [method for method, _ in pairs.values()],
        "baseline_values": [baseline for _, baseline in pairs.values()],
        **_plain(judged),
        "controls": [content for content, _ in controls],
    }


def _named(side: Mapping[str, Any]) -> dict[str, Any]:
    return {**side, "method": side_name(side["method"]), "baseline": side_name(side["baseline"])}


def _pairs(side: Mapping[str, Any], arms: Arms) -> dict[int, tuple[float, float]]:
    """Return method's and baseline's value for each seed that has both."""
    method = side_values(side["method"], side["metric"], arms)
    baseline = side_values(side["baseline"], side["baseline_metric"], arms)
    return {seed: (method[seed], baseline[seed]) for seed in method if seed in baseline}


def _unknown_metric(side: Mapping[str, Any], arms: Arms) -> str | None:
    """Return a word on a metric that finished runs do not have."""
    for role, key in (("method", "metric"), ("baseline", "baseline_metric")):
        for arm in weights_of(side[role]):
            known = {name for values in arms[arm].by_seed.values() for name in values}
            if known and side[key] not in known:
                hint = suggestion(side[key], known)
                return f"no run of {arm} has {side[key]}{hint if 'did you mean' in hint else ''}"
    return None


def _gains(pairs: Mapping[int, tuple[float, float]], direction: str) -> dict[int, float]:
    sign = 1 if direction == "up" else -1
    return {seed: sign * (method - baseline) for seed, (method, baseline) in pairs.items()}


def _plain(judged: Judgement) -> dict[str, Any]:
    return judged._asdict() | {"interval": judged.interval and list(judged.interval)}


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
    """Return mean, standard deviation and 95 % interval of some values (None for one value)."""
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


def _show(content: Mapping[str, Any], place: Path) -> None:
    from harness.core.screen import show_table

    rows = []
    for statement in content["statements"]:
        for part in statement["parts"]:
            bounds = part["interval"]
            between = f"{bounds[0]:+.2f} to {bounds[1]:+.2f}" if bounds else ""
            effect = None if part["effect"] is None else f"{part['effect']:+.2f}"
            what = part["text"] or part["metric"].removeprefix("test/")
            rows.append([statement["name"], what, part["verdict"], effect, between, part["least"], part["reason"]])
    columns = ["statement", "compared", "verdict", "effect", "95 % interval", "least", "why"]
    show_table(f"claim {content['claim']}: {content['verdict']}", columns, rows)
    print(f"report: {_near(place / 'report.html')}", flush=True)
