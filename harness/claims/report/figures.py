"""Numbers, intervals, effects and curves of the report, made ready for its template and for plotly."""

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

NOTHING = "\N{EN DASH}"
DASHES = ("solid", "7px,3px", "2px,3px", "10px,3px,2px,3px")
COLORS = 8
# Points of a curve: more than a figure has pixels only make the page heavy.
_POINTS = 600
# Effects further apart than this are not readable on one axis.
_ONE_AXIS = 30.0


def number(value: Any) -> float | None:
    """Return a value as a number, `"nan"` and `"inf"` included, None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def finite(value: Any) -> float | None:
    """Return a value as a finite number, None if it is none."""
    found = number(value)
    return found if found is not None and math.isfinite(found) else None


def places(values: Iterable[Any]) -> int | None:
    """Return the decimals that give the largest value four significant digits, None where powers of ten read better."""
    largest = max((abs(v) for v in map(finite, values) if v is not None), default=0.0)
    if not largest:
        return 2
    if not 1e-3 <= largest < 1e7:
        return None
    return min(5, max(0, 3 - math.floor(math.log10(largest))))


def written(value: Any, decimals: int | None = None, *, sign: bool = False) -> str:
    """Return a number as text with a true minus, never a negative zero; a dash for nothing."""
    if finite(value) is None:
        return NOTHING if number(value) is None else str(value)
    plus = "+" if sign else ""
    text = f"{float(value):{plus},.{decimals}f}" if decimals is not None else f"{float(value):{plus}.3g}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "\N{MINUS SIGN}")


def alone(value: Any) -> str:
    """Return a number that stands alone, whole ones whole; text as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return NOTHING if value is None else str(value)
    return written(value, 0 if isinstance(value, int) else places([value]))


def spread(value: Any, decimals: int | None) -> str | None:
    """Return a standard deviation as text; one too small for the decimals is told as below them."""
    if finite(value) is None:
        return None
    least = 0.0 if decimals is None else 10.0**-decimals
    return f"<{least:.{decimals}f}" if 0 < value < least / 2 else written(value, decimals)


def interval(ends: Any, decimals: int | None, *, sign: bool = False) -> str | None:
    """Return an interval as text, None if there is none."""
    if not isinstance(ends, list | tuple) or len(ends) != 2:
        return None
    return " to ".join(written(end, decimals, sign=sign) for end in ends)


def _ends(row: Mapping[str, Any]) -> list[float]:
    marks = [row.get("effect"), row.get("least"), *(row.get("interval") or [])]
    return [end for end in map(finite, marks) if end is not None]


def _axis(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the range of one axis, what is drawn of every row on it, and the numbers as text."""
    ends = [0.0, *(end for row in rows for end in _ends(row))]
    low, high, decimals = min(ends), max(ends), places(ends)
    margin = 0.1 * (high - low) or 1.0
    texts = [
        {
            "effect_text": written(row.get("effect"), decimals, sign=True),
            "interval_text": interval(row.get("interval"), decimals, sign=True),
            "least_text": written(row.get("least"), decimals),
        }
        for row in rows
    ]
    return {
        "range": [low - margin, high + margin],
        "marks": [_marks(row) for row in rows],
        "rows": [row | text for row, text in zip(rows, texts, strict=True)],
    }


def _marks(row: Mapping[str, Any]) -> dict[str, Any]:
    ends = [finite(end) for end in row.get("interval") or []]
    return {
        "effect": finite(row.get("effect")),
        "interval": ends if len(ends) == 2 and None not in ends else None,
        "least": finite(row.get("least")),
        "verdict": row.get("verdict"),
        "control": row.get("control", False),
    }


def forest(parts: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the axes of a statement's effects.

    Args:
        parts: for each comparison its row, then the rows of its controls; each with `effect`, `interval`, `least`.

    Returns:
        One axis for all, or one for each comparison where their sizes are too different.
    """
    sizes = [max(map(abs, ends)) for part in parts if any(ends := _ends(part[0]))]
    if sizes and max(sizes) > _ONE_AXIS * min(sizes):
        return [_axis(part) for part in parts]
    return [_axis([row for part in parts for row in part])]


def _series(folder: Path) -> dict[str, dict[float, float]]:
    """Return every metric of a run by step; lines that a killed run left half written are passed over."""
    series: dict[str, dict[float, float]] = {}
    try:
        lines = (folder / "metrics.jsonl").read_text(errors="replace").splitlines()
    except OSError:
        return series
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        step = finite(row.get("step")) if isinstance(row, dict) else None
        if step is not None:
            for metric, value in row.items():
                if (figure := number(value)) is not None:
                    series.setdefault(metric, {})[step] = figure
    return series


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _curve(runs: Sequence[dict[float, float]], epochs: Mapping[float, float]) -> dict[str, Any]:
    """Return the mean over runs at their common steps, with the smallest and the largest."""
    common = sorted(set.intersection(*map(set, runs)))
    apart = not common
    if apart:
        runs, common = runs[:1], sorted(runs[0])
    every = math.ceil(len(common) / _POINTS)
    steps = common[::-1][::every][::-1]
    values = [[run[step] for run in runs] for step in steps]
    whole = [found if all(map(math.isfinite, found)) else None for found in values]
    seen = [finite(epochs.get(step)) for step in steps]
    return {
        "x": [int(step) if step.is_integer() else step for step in steps],
        "mean": [_rounded(statistics.fmean(found)) if found else None for found in whole],
        "low": [_rounded(min(found)) if found else None for found in whole],
        "high": [_rounded(max(found)) if found else None for found in whole],
        "epoch": [None if epoch is None else int(epoch) for epoch in seen],
        "runs": len(runs),
        "gaps": whole.count(None),
        "every": every,
        "apart": apart,
    }


def _last(curve: Mapping[str, Any]) -> str:
    """Return the last value of a curve as text."""
    ends = [next((v for v in reversed(curve[key]) if v is not None), None) for key in ("mean", "low", "high")]
    mean, low, high = (written(end, places(ends)) for end in ends)
    return f"{mean} ({low} to {high})" if curve["runs"] > 1 and mean != NOTHING else mean


def curves(folders: Mapping[str, Sequence[Path]], metrics: Sequence[str] | None) -> list[dict[str, Any]]:
    """Return a figure for every metric that any run logged.

    Args:
        folders: arm -> folders of the runs to draw.
        metrics: what to draw; None for everything that validation logged and the training loss.
    """
    logged = {arm: [_series(folder) for folder in runs] for arm, runs in folders.items()}
    if metrics is None:
        known = {metric for runs in logged.values() for run in runs for metric in run}
        metrics = sorted(metric for metric in known if metric.startswith(("val/", "train/loss")))
    figures = []
    for metric in metrics:
        drawn = []
        for index, runs in enumerate(logged.values()):
            found = [run for run in runs if metric in run]
            if found:
                curve = _curve([run[metric] for run in found], found[0].get("epoch", {}))
                drawn.append(curve | {"arm": index, "last": _last(curve)})
        if drawn:
            figures.append({"metric": metric, "curves": drawn})
    return figures
