"""The run folders that a report is about: what each holds, where they differ, what they were made of."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.files import read_json
from harness.claims.report.figures import NOTHING, finite
from harness.config.lock_reader import read_lock

# The packages named when no claim chooses them: those that move numbers most.
_PACKAGES = ("torch", "torchvision", "pytorch-lightning", "numpy", "hydra-core")


@dataclass(frozen=True)
class Run:
    """A run folder as found on disk; `path` is None where nothing is there."""

    seed: Any
    folder: str
    status: str
    path: Path | None
    lock: dict[str, Any]
    result: dict[str, Any]


Arms = Mapping[str, Sequence[Run]]


def mapping(value: Any) -> dict[str, Any]:
    """Return a value if it is a mapping, else an empty one: files of failed runs hold anything."""
    return value if isinstance(value, dict) else {}


def near(path: Path) -> str:
    """Return a path as seen from here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _read(path: Path | None, told: Mapping[str, Any]) -> Run:
    """Return a run from its folder and from what the claim tells of it."""
    result, state = (mapping(read_json(path / f"{name}.json")) if path else {} for name in ("result", "status"))
    lock = mapping(read_lock(path)) if path else {}
    seed = told.get("seed", mapping(lock.get("config")).get("seed", "?"))
    status = told.get("status") or state.get("status") or ("unknown" if path else "missing")
    folder = told.get("folder") or (near(path) if path else NOTHING)
    return Run(seed, str(folder), str(status), path, lock, result)


def read_runs(arms: Mapping[str, Sequence[Path]], claim: Mapping[str, Any]) -> dict[str, list[Run]]:
    """Return the runs of every arm, those that the claim tells of first."""
    told = mapping(claim.get("arms"))
    runs = {}
    for name in dict.fromkeys([*told, *arms]):
        paths = {path.name: path for path in map(Path, arms.get(name, ()))}
        expected = mapping(told.get(name)).get("runs") or []
        known = [_read(paths.pop(Path(run.get("folder") or "").name, None), run) for run in expected]
        runs[name] = known + [_read(path, {}) for path in paths.values()]
    return runs


def measured(runs: Sequence[Run], kind: str) -> dict[str, list[float]]:
    """Return the finite values of all finished runs by name; kind is `metrics` or `cost`."""
    values: dict[str, list[float]] = {}
    for run in runs:
        for key, value in mapping(run.result.get(kind)).items() if run.status == "done" else ():
            if (found := finite(value)) is not None:
                values.setdefault(key, []).append(found)
    return values


def headlines(arms: Arms) -> list[str]:
    """Return the metrics that the runs' experiments put first, or all of the test."""
    results = [run.result for runs in arms.values() for run in runs]
    chosen = [metric for result in results for metric in result.get("headline") or []]
    tested = [metric for result in results for metric in mapping(result.get("metrics")) if metric.startswith("test/")]
    return list(dict.fromkeys(chosen or tested))


def to_show(arms: Arms) -> dict[str, list[Run]]:
    """Return the finished runs of every arm, or what there is where none is finished: half a run spoils a mean."""
    there = {arm: [run for run in runs if run.path] for arm, runs in arms.items()}
    return {arm: [run for run in runs if run.status == "done"] or runs for arm, runs in there.items()}


def code(lock: Mapping[str, Any]) -> str:
    """Return the commit, and whether the code differed from it."""
    state = mapping(lock.get("code"))
    name = str(state["commit"])[:10] if state.get("commit") else "unknown commit"
    return f"{name} with uncommitted changes {state['changes']}" if state.get("changes") else name


def machine(lock: Mapping[str, Any]) -> str:
    """Return the hardware in words, without the system's own version."""
    found = mapping(lock.get("hardware"))
    if not found:
        return "unknown"
    gpus = ", ".join(map(str, found.get("gpus") or [])) or "no GPU"
    return f"{found.get('machine', '?')}, {found.get('cores', '?')} cores, {found.get('threads', '?')} threads, {gpus}"


def _differing(arms: Arms, what: str, of: Callable[[Mapping[str, Any]], str]) -> list[str]:
    """Return a warning when the finished runs do not agree in something."""
    groups: dict[str, list[str]] = {}
    for arm, runs in arms.items():
        for run in runs:
            if run.status == "done" and run.lock:
                groups.setdefault(of(run.lock), []).append(f"{arm} seed {run.seed}")
    if len(groups) < 2:
        return []
    parts = "; ".join(f"{value}: {', '.join(names)}" for value, names in groups.items())
    return [f"The runs of the table come from different {what}. {parts}."]


def warnings(arms: Arms) -> list[str]:
    """Return what a reader must know before trusting the table."""
    runs = [(arm, run) for arm, found in arms.items() for run in found]
    left = [f"{arm} seed {run.seed} ({run.status})" for arm, run in runs if run.status != "done"]
    unfinished = [f"{len(left)} of {len(runs)} runs are not done: {', '.join(left)}."] if left else []
    return unfinished + _differing(arms, "commits or states of the code", code) + _differing(arms, "hardware", machine)


def made_of(arms: Arms) -> dict[str, Any]:
    """Return the first run's lock, its packages cut to those that matter most."""
    lock = next((run.lock for runs in arms.values() for run in runs if run.lock), {})
    packages = {name: version for name, version in mapping(lock.get("packages")).items() if name in _PACKAGES}
    return lock | {"packages": packages}


def provenance(lock: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a lock tells, as names and words, and the time of writing."""
    state, data = mapping(lock.get("code")), lock.get("data")
    changes = f"with uncommitted changes (hash {state['changes']})" if state.get("changes") else "unchanged"
    packages = ", ".join(f"{name} {version}" for name, version in mapping(lock.get("packages")).items())
    named = [f"{name}: {value}" for name, value in data.items()] if isinstance(data, dict) else data
    fingerprints = ", ".join(map(str, named)) if isinstance(named, list) else str(named or "")
    return [
        ("git commit", f"{state['commit']}, {changes}" if state.get("commit") else "unknown"),
        ("Python", str(lock.get("python", "unknown"))),
        ("packages", packages or "unknown"),
        ("hardware", machine(lock)),
        ("system", str(mapping(lock.get("hardware")).get("system", "unknown"))),
        ("data fingerprint", fingerprints or "unknown"),
        ("written", time.strftime("%Y-%m-%d %H:%M %Z")),
    ]
