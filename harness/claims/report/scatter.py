"""Two metrics of a claim's arms against each other, such as accuracy against trained parameters."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.claims.report.figures import finite, interval, places, ticks, written
from harness.claims.report.runs import mapping


def _mean(arm: Mapping[str, Any], metric: str) -> float | None:
    if metric.startswith("cost/"):
        return finite(mapping(arm.get("cost")).get(metric.removeprefix("cost/")))
    return finite(mapping(mapping(arm.get("metrics")).get(metric)).get("mean"))


def scatter(told: Mapping[str, Any], shown: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the figure, its points in percent of its sides, None where the claim asks for none or no arm has both.

    Args:
        told: the content of claim.json.
        shown: the arms as the page shows them, with `name` and `colour`.
    """
    asked, arms = mapping(told.get("scatter")), mapping(told.get("arms"))
    if not asked:
        return None
    points = []
    for arm in shown:
        about = mapping(arms.get(arm["name"]))
        x, y = _mean(about, asked["x"]), _mean(about, asked["y"])
        if x is not None and y is not None and x >= 0:
            ends = mapping(mapping(about.get("metrics")).get(asked["y"])).get("interval") or [y, y]
            points.append({"name": arm["name"], "colour": arm["colour"], "x": x, "y": y, "ends": ends})
    return _figure(points, asked) if points else None


def _figure(points: Sequence[dict[str, Any]], asked: Mapping[str, Any]) -> dict[str, Any]:
    # Numbers of parameters differ by powers of ten; zero gets a place of its own at the left.
    powers = [math.log10(p["x"]) for p in points if p["x"] > 0] or [0.0]
    left, right = math.floor(min(powers)) - 1, math.ceil(max(powers) + 0.2)
    low, high = min(p["ends"][0] for p in points), max(p["ends"][1] for p in points)
    margin = 0.08 * (high - low) or 1.0
    low, high = low - margin, high + margin
    decimals = places([low, high])

    def across(x: float) -> float:
        power = math.log10(x) if x > 0 else float(left)
        return round(4 + 92 * (power - left) / (right - left), 2)

    def up(y: float) -> float:
        return round(100 - 100 * (y - low) / (high - low), 2)

    marked = [
        {
            **point,
            "left": across(point["x"]),
            "top": up(point["y"]),
            "bar": [up(end) for end in point["ends"]],
            "text": f"{written(point['y'], decimals)} at {written(point['x'], 0)}",
            "interval_text": interval(point["ends"], decimals),
        }
        for point in points
    ]
    columns = [
        (across(0), "0"),
        *((across(10.0**p), f"1e{p}" if p > 3 else f"{10**p}") for p in range(left + 1, right + 1)),
    ]
    return {
        **asked,
        "points": sorted(marked, key=lambda point: (point["left"], point["top"])),
        "columns": columns if any(p["x"] == 0 for p in points) else columns[1:],
        "rows": [(up(tick), written(tick, decimals)) for tick in ticks(low, high)],
    }
