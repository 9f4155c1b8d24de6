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
from harness.claims.report.statement_rows import statement_rows, verdict_and_kind
from harness.claims.verdict import __doc__ as rule
from harness.claims.wording import design_text, tally_text


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
    given = next((" ".join(map(str, words)) for run in runs if (words := run.lock.get("overrides"))), "")
    return {
        "name": name,
        "description": told.get("description") or "",
        "overrides": told.get("overrides") or given,
        "cells": {key: _cell(mapping(metric)) for key, metric in metrics.items()},
        "cost": {key: figures.written(cost.get(key), 1) for key in ("seconds", "test_seconds")}
        | {key: figures.written(cost.get(key), 0) for key in ("parameters", "trainable")},
        "done": sum(run.status == "done" for run in runs),
        "runs": runs,
        "color": index % figures.COLORS,
        "dash": figures.DASHES[index % len(figures.DASHES)],
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
    statements = [statement_rows(statement) for statement in told.get("statements") or []]
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
        told={key: told.get(key) for key in ("claim", "text", "substitutes", "runtime", "seeds", "learned", "scope")},
        tally=tally_text(told.get("tally")),
        design=design_text(told),
        notes=told.get("notes") or [],
        cost={key: figures.written(value, 0) for key, value in mapping(told.get("cost")).items()},
        title=told.get("paper") or told.get("claim") or "Comparison of runs",
        **verdict_and_kind(told),
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
