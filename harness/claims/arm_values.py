"""From the runs of an arm to its values: one setting chosen on validation, then a mean for each seed."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from common.files import read_json
from harness.claims.claim_runs import ClaimRun
from harness.config.claim_schema import weights_of
from harness.core.run_folder import RunFolder

# The metrics of an arm for each seed.
BySeed = dict[int, dict[str, float]]


class ArmRuns(NamedTuple):
    """The runs of an arm that count, its values, and the settings among which they were chosen (None: no choice)."""

    runs: list[ClaimRun]
    by_seed: BySeed
    chosen: dict[str, Any] | None


def result_of(run: ClaimRun) -> dict[str, Any] | None:
    """Return the result of a finished run."""
    return RunFolder(run.folder).result if RunFolder(run.folder).status == "done" else None


def values_of(result: Mapping[str, Any]) -> dict[str, float]:
    """Return metrics and, as `cost/...`, what the run cost."""
    costs = {f"cost/{key}": value for key, value in result["cost"].items() if value is not None}
    return {key: float(value) for key, value in {**result["metrics"], **costs}.items()}


def arm_runs(runs: Sequence[ClaimRun], choose: Mapping[str, Any] | None) -> ArmRuns:
    """Return what counts of an arm's runs.

    Args:
        runs: every run of the arm.
        choose: `key`, whose values are the settings, `by`, the validation metric, and its `direction`; the test
            results of the settings that are not chosen are read by nobody.
    """
    settings: dict[str, list[ClaimRun]] = {}
    for run in runs:
        settings.setdefault(_setting(run, choose), []).append(run)
    if len(settings) < 2 or choose is None:
        return ArmRuns(list(runs), _by_seed(runs), None)
    quality = {setting: _quality(own, choose["by"]) for setting, own in settings.items()}
    whole = {setting: value for setting, value in quality.items() if value is not None}
    sign = 1 if choose["direction"] == "up" else -1
    best = max(whole, key=lambda setting: sign * whole[setting], default=next(iter(settings)))
    told = {"key": choose["key"], "value": best, "by": choose["by"], "tried": quality}
    return ArmRuns(settings[best], _by_seed(settings[best]), told)


def _setting(run: ClaimRun, choose: Mapping[str, Any] | None) -> str:
    if choose is None:
        return ""
    pairs = (override.lstrip("+~").partition("=") for override in run.overrides)
    return next((value for key, _, value in pairs if key == choose["key"]), "")


def _quality(runs: Iterable[ClaimRun], metric: str) -> float | None:
    """Return the mean of a validation metric over runs, None unless all of them are finished and have it."""
    results = [result_of(run) for run in runs]
    found = [result["metrics"].get(metric) for result in results if result]
    if len(found) < len(results) or None in found:
        return None
    return statistics.fmean(map(float, found))


def _by_seed(runs: Iterable[ClaimRun]) -> BySeed:
    """Return the mean of every metric over an arm's runs of a seed, for the seeds whose runs are all finished."""
    seeds: dict[int, list[dict[str, Any] | None]] = {}
    for run in runs:
        seeds.setdefault(run.config["seed"], []).append(result_of(run))
    found: BySeed = {}
    for seed, results in seeds.items():
        values = [values_of(result) for result in results if result]
        if values and len(values) == len(results):
            shared = set.intersection(*(set(one) for one in values))
            found[seed] = {key: statistics.fmean(one[key] for one in values) for key in values[0] if key in shared}
    return found


def side_values(side: str | Mapping[str, float], metric: str, arms: Mapping[str, ArmRuns]) -> dict[int, float]:
    """Return, for each seed that has it, the value of an arm or the weighted sum of several arms."""
    weights = weights_of(side)
    tables = {name: arms[name].by_seed for name in weights}
    seeds = set.intersection(*(set(table) for table in tables.values()))
    whole = [seed for seed in sorted(seeds) if all(metric in table[seed] for table in tables.values())]
    return {seed: sum(weight * tables[name][seed][metric] for name, weight in weights.items()) for seed in whole}


def side_name(side: str | Mapping[str, float]) -> str:
    """Return how a side is called."""
    return side if isinstance(side, str) else " + ".join(f"{weight:g} {name}" for name, weight in side.items())


def read_status(run: ClaimRun) -> str:
    """Return the status of a run, `missing` for one that was never begun."""
    return (read_json(run.folder / "status.json") or {}).get("status", "missing")
