"""What the page shows of a statement: its verdict, its comparisons and controls, and the values of each seed."""

from collections.abc import Mapping
from typing import Any

from harness.claims.report import figures
from harness.claims.report.runs import mapping
from harness.claims.verdict import WORST_FIRST

# How a verdict looks: what is as claimed or expected, what is not, and what says nothing.
_KINDS = dict.fromkeys(("holds", "passed", "as expected"), "holds")
_KINDS |= dict.fromkeys(("fails", "failed", "not as expected"), "fails") | {"void": "void"}

# What is shown of a comparison or a control.
_SHOWN = (
    *("effect", "interval", "min_effect", "margin", "ceiling", "seeds_needed"),
    *("method", "baseline", "metric", "baseline_metric", "name", "reason"),
)


def verdict_and_kind(told: Mapping[str, Any]) -> dict[str, str]:
    """Return a verdict and the kind as which it is drawn."""
    verdict = told.get("verdict")
    known = str(verdict) if verdict in WORST_FIRST else "undecided"
    return {"verdict": known, "kind": _KINDS.get(known, known)}


def _effect(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page shows of a comparison or a control, every key present."""
    return {key: row.get(key) for key in _SHOWN} | verdict_and_kind(row)


def _seed_table(part: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what method and baseline measured for each seed, and their difference counted as claimed."""
    method, baseline = list(part.get("method_values") or []), list(part.get("baseline_values") or [])
    if not method:
        return None
    decimals = figures.places([*method, *baseline])
    sign = -1 if part.get("direction") == "down" else 1
    pairs = [(figures.finite(m), figures.finite(b)) for m, b in zip(method, baseline, strict=False)]
    differences = [None if m is None or b is None else sign * (m - b) for m, b in pairs]
    rows = [(part.get("method"), part.get("metric"), [figures.written(value, decimals) for value in method])]
    if baseline:
        name = (part.get("baseline"), part.get("baseline_metric") or part.get("metric"))
        rows.append((*name, [figures.written(value, decimals) for value in baseline]))
        rows.append((None, None, [figures.written(value, decimals, sign=True) for value in differences]))
    return {"name": part.get("text"), "seeds": part.get("seeds") or list(range(len(method))), "rows": rows}


def _lead(control: Mapping[str, Any]) -> str | None:
    """Return the method's lead over a control as text."""
    lead = mapping(control.get("lead"))
    decimals = figures.places([lead.get("effect"), *(lead.get("interval") or [])])
    if figures.finite(lead.get("effect")) is None:
        return None
    bounds = figures.interval(lead.get("interval"), decimals, sign=True)
    return figures.written(lead["effect"], decimals, sign=True) + (f" ({bounds})" if bounds else "")


def _facts(told: Mapping[str, Any]) -> list[str]:
    """Return what is to be known of a statement besides its verdict, a sentence each."""
    planned, needed = told.get("seeds_planned"), told.get("seeds_needed")
    facts = [f"The paper says it: {told['source']}."] if told.get("source") else []
    facts += [f"Guards {', '.join(told['guards'])}."] if told.get("guards") else []
    facts += [f"Planned: {planned} seeds."] if planned else []
    return facts + ([f"At the variance seen, {needed} seeds would decide it."] if needed else [])


def statement_rows(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page shows of a statement."""
    parts = told.get("parts") or []
    groups = []
    for part in parts:
        rows = [_effect(part | {"name": part.get("text")}) | {"control": False, "lead": None}]
        # The margin of a control bounds the method's lead over it, which is not drawn.
        rows += [
            _effect(control | {"margin": None}) | {"control": True, "lead": _lead(control)}
            for control in part.get("controls") or []
        ]
        groups.append(rows)
    return {
        "role": told.get("role"),
        "facts": _facts(told),
        "name": str(told.get("name", "")),
        "text": told.get("text") or "",
        "reason": told.get("reason") or "",
        **verdict_and_kind(told),
        "forests": figures.forest(groups),
        "tables": [table for table in map(_seed_table, parts) if table],
    }
