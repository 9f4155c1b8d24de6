"""Two metrics of a claim's arms against each other, such as accuracy against trained parameters."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.claims.report.figures import finite, interval, places, written
from harness.claims.report.runs import mapping


def _mean(arm: Mapping[str, Any], metric: str) -> float | None:
    if metric.startswith("cost/"):
        return finite(mapping(arm.get("cost")).get(metric.removeprefix("cost/")))
    return finite(mapping(mapping(arm.get("metrics")).get(metric)).get("mean"))


def scatter(told: Mapping[str, Any], shown: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the figure, None where the claim asks for none or no arm has both.

    Args:
        told: the content of claim.json.
        shown: the arms as the page shows them, with `name` and `color`.
    """
    asked, arms = mapping(told.get("scatter")), mapping(told.get("arms"))
    if not asked:
        return None
    points = []
    for arm in shown:
        about = mapping(arms.get(arm["name"]))
        x, y = _mean(about, asked["x"]), _mean(about, asked["y"])
        if x is not None and y is not None and x >= 0:
            ends = [finite(end) for end in mapping(mapping(about.get("metrics")).get(asked["y"])).get("interval") or []]
            known = ends if len(ends) == 2 and None not in ends else [y, y]
            points.append({"name": arm["name"], "color": arm["color"], "x": x, "y": y, "ends": known})
    return _figure(points, asked) if points else None


def _figure(points: Sequence[dict[str, Any]], asked: Mapping[str, Any]) -> dict[str, Any]:
    # Numbers of parameters differ by powers of ten; zero gets a place of its own, a decade to the left.
    powers = [math.log10(point["x"]) for point in points if point["x"] > 0] or [0.0]
    first, last = math.floor(min(powers)), math.ceil(max(powers))
    columns = [(10.0**power, f"1e{power}" if power > 3 else f"{10**power}") for power in range(first, last + 1)]
    if has_zero := any(point["x"] == 0 for point in points):
        columns.insert(0, (10.0 ** (first - 1), "0"))
    decimals = places(end for point in points for end in point["ends"])
    marked = [
        {
            **point,
            "at": point["x"] or columns[0][0],
            "text": f"{written(point['y'], decimals)} at {written(point['x'], 0)}",
            "interval_text": interval(point["ends"], decimals),
        }
        for point in points
    ]
    ordered = sorted(marked, key=lambda point: (point["at"], -point["y"]))
    titles = [asked["x"].removeprefix("cost/"), asked["y"].removeprefix("test/")]
    return {"titles": titles, "points": ordered, "columns": columns, "has_zero": has_zero}
