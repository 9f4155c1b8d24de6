"""The parts of a statement: their values for each seed, and what the rule says of them."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from common.errors import suggestion
from harness.claims.arm_values import ArmRuns, side_name, side_values
from harness.claims.intervals import interval, is_constant, seeds_to_equate, seeds_to_pass
from harness.claims.verdict import NOT_JUDGED, Judgement, judge, judge_control, judge_limit, with_controls
from harness.config.claim_schema import weights_of

Arms = Mapping[str, ArmRuns]
# Differences by seed.
Gains = Mapping[int, float]

# A sanity statement has two verdicts: what is not shown to hold has not passed.
_OF_SANITY = {"holds": "passed", "fails": "failed", "undecided": "failed"}


def measured(part: Mapping[str, Any], arms: Arms) -> dict[str, Any]:
    """Return a part of a claim file with the values of its sides, its controls and its ceiling for each seed."""
    content: dict[str, Any] = {"text": "", "baseline_metric": part["metric"], "controls": [], "ceiling": None, **part}
    values, controls = _values(content, arms), []
    for control in content["controls"]:
        side = {key: control.get(key, content[key]) for key in ("method", "metric", "baseline", "baseline_metric")}
        own = {key: control[key] for key in ("name", "margin") if key in control}
        controls.append(own | _named(side) | _values(side, arms))
    if isinstance(ceiling := content["ceiling"], str | dict):
        reached = side_values(ceiling, content["metric"], arms)
        content["ceiling_values"] = [reached.get(seed) for seed in values["seeds"]]
    return {**_named(content), **values, "controls": controls, "problem": _problem(content, arms)}


def judged(part: Mapping[str, Any], role: str, power: float) -> dict[str, Any]:
    """Return a measured part with its verdict.

    Args:
        part: what `measured` returns, or the part of a published result.
        role: the role of its statement.
        power: that for which `seeds_needed` is given, the seeds that would decide it at the variance seen.
    """
    gains, ceiling = _gains(part), _from_ceiling(part)
    judgement, needed = _judge(part, role, list(gains.values()), ceiling, power)
    if (problem := part.get("problem")) and judgement.reason != NOT_JUDGED:
        judgement, needed = judgement._replace(verdict="undecided", reason=problem), None
    controls = [_control(control, part, gains) for control in part["controls"]]
    judgement = with_controls(judgement, [(control["name"], verdict) for control, verdict in controls])
    if role == "sanity":
        judgement = judgement._replace(verdict=_OF_SANITY[judgement.verdict])
    return {
        **{key: value for key, value in part.items() if key != "problem"},
        **_plain(judgement),
        "ceiling": _ceiling_effect(part, gains),
        "seeds_needed": needed,
        "controls": [control for control, _ in controls],
    }


def _judge(
    part: Mapping[str, Any], role: str, gains: Sequence[float], from_ceiling: Sequence[float] | None, power: float
) -> tuple[Judgement, int | None]:
    """Return a part's verdict without its controls, and the number of seeds that would decide it."""
    deterministic = part.get("deterministic", False)
    if role == "limit":
        margin, offsets = part.get("margin"), gains if from_ceiling is None else from_ceiling
        judgement = judge_limit(gains, margin, from_ceiling=from_ceiling, deterministic=deterministic)
        needed = None if margin is None or _says_nothing(offsets) else seeds_to_equate(offsets, margin, power)
    else:
        judgement = judge(gains, part["min_effect"], deterministic=deterministic)
        needed = None if _says_nothing(gains) else seeds_to_pass(gains, part["min_effect"], power)
    return judgement, 2 if deterministic else needed


def _says_nothing(differences: Sequence[float]) -> bool:
    return len(differences) < 2 or not all(map(math.isfinite, differences)) or is_constant(differences)


def _control(control: Mapping[str, Any], part: Mapping[str, Any], gains: Gains) -> tuple[dict[str, Any], Judgement]:
    """Return a control with its verdict; `effect` is its own gain, `lead` that of the method over it."""
    own = _gains({"direction": part["direction"], **control})
    both = [seed for seed in gains if seed in own]
    margin = control.get("margin", max(0.0, part["min_effect"] / 2))
    deterministic = part.get("deterministic", False)
    verdict = judge_control([gains[s] for s in both], [own[s] for s in both], margin, deterministic=deterministic)
    bounds = interval(list(own.values()))
    shown = {
        "margin": margin,
        "verdict": verdict.verdict,
        "effect": statistics.fmean(own.values()) if own else None,
        "interval": bounds and list(bounds),
        "reason": verdict.reason,
        "lead": {key: value for key, value in _plain(verdict).items() if key in {"effect", "interval"}},
    }
    return {**control, **shown}, verdict


def _from_ceiling(part: Mapping[str, Any]) -> list[float] | None:
    """Return each seed's difference less its ceiling, None without a ceiling."""
    if "ceiling_values" in part:
        sign = _sign(part)
        pairs = zip(part["method_values"], part["ceiling_values"], strict=True)
        return [sign * (method - top) for method, top in pairs if top is not None]
    return None if part["ceiling"] is None else [gain - part["ceiling"] for gain in _gains(part).values()]


def _ceiling_effect(part: Mapping[str, Any], gains: Gains) -> float | None:
    """Return the ceiling as an effect: the number of the claim file, or the mean gain of the arm that reaches it."""
    if "ceiling_values" not in part:
        return part["ceiling"]
    triples = zip(gains.values(), part["method_values"], part["ceiling_values"], strict=True)
    tops = [gain - _sign(part) * (method - top) for gain, method, top in triples if top is not None]
    return statistics.fmean(tops) if tops else None


def _named(side: Mapping[str, Any]) -> dict[str, Any]:
    return {**side, "method": side_name(side["method"]), "baseline": side_name(side["baseline"])}


def _values(side: Mapping[str, Any], arms: Arms) -> dict[str, Any]:
    """Return method's and baseline's value for each seed that has both."""
    method = side_values(side["method"], side["metric"], arms)
    baseline = side_values(side["baseline"], side["baseline_metric"], arms)
    seeds = [seed for seed in method if seed in baseline]
    return {
        "seeds": seeds,
        "method_values": [method[seed] for seed in seeds],
        "baseline_values": [baseline[seed] for seed in seeds],
    }


def _problem(side: Mapping[str, Any], arms: Arms) -> str | None:
    """Return why a part compares nothing: a metric that finished runs do not have, or twice the same runs."""
    ends = [(weights_of(side["method"]), side["metric"]), (weights_of(side["baseline"]), side["baseline_metric"])]
    for weights, metric in ends:
        for arm in weights:
            known = {name for values in arms[arm].by_seed.values() for name in values}
            if known and metric not in known:
                hint = suggestion(metric, known)
                return f"no run of {arm} has {metric}{hint if 'did you mean' in hint else ''}"
    folders = [{(run.folder, w) for arm, w in weights.items() for run in arms[arm].runs} for weights, _ in ends]
    if folders[0] and folders[0] == folders[1] and side["metric"] == side["baseline_metric"]:
        return "method and baseline are the same runs: the arms are one experiment"
    return None


def _gains(side: Mapping[str, Any]) -> dict[int, float]:
    sign = _sign(side)
    pairs = zip(side["method_values"], side["baseline_values"], strict=True)
    return {seed: sign * (method - baseline) for seed, (method, baseline) in zip(side["seeds"], pairs, strict=True)}


def _sign(side: Mapping[str, Any]) -> int:
    return 1 if side["direction"] == "up" else -1


def _plain(judgement: Judgement) -> dict[str, Any]:
    return judgement._asdict() | {"interval": judgement.interval and list(judgement.interval)}
