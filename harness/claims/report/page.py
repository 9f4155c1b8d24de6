"""The report: one HTML file with the verdict, its numbers, curves, pictures, and how to repeat it. Needs no network."""

import base64
import gzip
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.errors import disk_error
from common.files import atomic_write
from harness.claims.report import exhibits, figures
from harness.claims.report.runs import (
    Run,
    code,
    headlines,
    made_of,
    mapping,
    measured,
    provenance,
    read_runs,
    to_show,
    warnings,
)
from harness.claims.report.scatter import scatter
from harness.claims.verdict import WORST_FIRST
from harness.claims.verdict import __doc__ as rule


def _verdict(told: Mapping[str, Any]) -> str:
    verdict = told.get("verdict")
    return str(verdict) if verdict in WORST_FIRST else "undecided"


def _cell(metric: Mapping[str, Any]) -> dict[str, Any]:
    decimals = figures.places([metric.get("mean"), metric.get("sd")])
    return {
        "mean": figures.written(metric.get("mean"), decimals),
        "sd": figures.spread(metric.get("sd"), decimals),
        "interval": figures.interval(metric.get("interval"), decimals),
        "n": sum(value is not None for value in metric.get("values") or []),
    }


def _summary(values: list[float]) -> dict[str, Any]:
    sd = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "sd": sd, "interval": None, "values": values}


def _arm(name: str, index: int, runs: Sequence[Run], told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page shows of an arm."""
    metrics = told.get("metrics") or {key: _summary(v) for key, v in measured(runs, "metrics").items()}
    cost = told.get("cost") or {key: statistics.fmean(v) for key, v in measured(runs, "cost").items()}
    words = told.get("words") or next((" ".join(map(str, w)) for run in runs if (w := run.lock.get("overrides"))), "")
    return {
        "name": name,
        "about": told.get("about") or "",
        "words": words,
        "cells": {key: _cell(mapping(metric)) for key, metric in metrics.items()},
        "cost": {key: figures.written(cost.get(key), 1) for key in ("seconds", "test_seconds")}
        | {key: figures.written(cost.get(key), 0) for key in ("parameters", "trainable")},
        "done": sum(run.status == "done" for run in runs),
        "runs": runs,
        "color": index % figures.COLORS,
        "dash": figures.DASHES[index % len(figures.DASHES)],
    }


def _effect(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page shows of a comparison or a control, every key present."""
    keys = ("effect", "interval", "least", "method", "baseline", "metric", "baseline_metric", "name", "reason")
    return {key: row.get(key) for key in keys} | {"verdict": _verdict(row)}


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


def _statement(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page shows of a statement."""
    parts = told.get("parts") or []
    groups = []
    for part in parts:
        rows = [_effect(part | {"name": part.get("text")}) | {"control": False}]
        for control in part.get("controls") or []:
            # Where a control names no other side, it takes the method's place and the baseline stays.
            place = {"method": control.get("arm"), "baseline": part.get("baseline")}
            rows.append(_effect(place | control | {"least": None}) | {"control": True})
        groups.append(rows)
    return {
        "name": str(told.get("name", "")).replace("_", " "),
        "text": told.get("text") or "",
        "reason": told.get("reason") or "",
        "verdict": _verdict(told),
        "forests": figures.forest(groups),
        "tables": [table for table in map(_seed_table, parts) if table],
    }


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()


def page(arms: Mapping[str, Sequence[Path]], claim: Mapping[str, Any] | None, commands: Sequence[str]) -> str:
    """Return the report as HTML.

    Args:
        arms: run folders of every arm in the order of seeds.
        claim: the content of claim.json, None when any runs are compared.
        commands: what repeats it.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    told: Mapping[str, Any] = claim or {}
    runs = read_runs(arms, told)
    best = to_show(runs)
    folders = {arm: [run.path for run in found if run.path] for arm, found in best.items()}
    drawn = figures.curves(folders, told.get("curves"))
    about = mapping(told.get("arms"))
    shown = [_arm(name, index, found, mapping(about.get(name))) for index, (name, found) in enumerate(runs.items())]
    statements = [_statement(statement) for statement in told.get("statements") or []]
    forests = [{"range": axis["range"], "marks": axis["marks"]} for one in statements for axis in one["forests"]]
    points = scatter(told, shown)
    figure_data = {
        "arms": [{key: arm[key] for key in ("name", "color", "dash")} for arm in shown],
        "curves": drawn,
        "forests": forests,
        "scatter": points,
    }
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja").render(
        claim=claim,
        told={key: told.get(key) for key in ("claim", "text", "stand_in", "takes", "seeds")},
        cost={key: figures.written(value, 0) for key, value in mapping(told.get("cost")).items()},
        title=told.get("paper") or told.get("claim") or "Comparison of runs",
        verdict=_verdict(told),
        rule=str(rule).partition("\n\n")[2].strip(),
        statements=statements,
        warnings=warnings(runs),
        arms=shown,
        columns=told.get("columns") or headlines(runs),
        curves=drawn,
        scatter=points,
        figure_data=figure_data,
        pictures=exhibits.pictures(best),
        tables=exhibits.tables(best),
        paper_numbers=told.get("paper_numbers"),
        commands=commands,
        provenance=provenance(mapping(told.get("lock")) or made_of(runs)),
        plotly=_plotly() if drawn or forests or points else "",
        code=code,
    )


def write_report(
    path: Path, arms: Mapping[str, Sequence[Path]], claim: Mapping[str, Any] | None, commands: Sequence[str]
) -> None:
    """Write the report so that a reader sees the old page or the new one, never a part.

    Args:
        path: where the page goes.
        arms: run folders of every arm in the order of seeds; unfinished ones are shown as such.
        claim: the content of claim.json, None when any runs are compared.
        commands: what repeats it.

    Raises:
        BadInputError: if the disk does not let us.
    """
    text = page(arms, claim, commands)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        raise disk_error(error, path.parent) from None
