"""The tables and pictures that the runs of a report have left, arm beside arm."""

import base64
import io
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.files import read_json
from harness.claims.report.figures import alone, finite, number, places, written
from harness.claims.report.runs import Arms, Run, mapping, near
from harness.core.run_folder import sorted_pictures

# Bytes that all pictures of a page share, and the longest side of one that has to be made smaller.
_PICTURE_BYTES = 2_500_000
_LONGEST_SIDE = 1600


def _embed(file: Path, limit: float) -> dict[str, Any] | None:
    """Return a picture as a data address with its size, None if it is broken; one above the limit is made smaller."""
    from PIL import Image

    try:
        content, kind = file.read_bytes(), file.suffix[1:]
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            width, height = image.size
            if len(content) > limit:
                buffer = io.BytesIO()
                if kind == "gif":
                    image.save(buffer, "WEBP", quality=50, save_all=True)
                else:
                    image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
                    image.convert("RGBA" if image.has_transparency_data else "RGB").save(buffer, "WEBP", quality=85)
                if buffer.tell() < len(content):
                    content, kind = buffer.getvalue(), "webp"
    except (OSError, SyntaxError, ValueError):
        return None
    address = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return {"address": address, "width": width, "height": height, "reduced": kind == "webp"}


def pictures(arms: Arms) -> list[dict[str, Any]]:
    """Return a row for every picture's name with, for every arm, that of the first seed that has it."""
    found: dict[str, dict[str, tuple[Run, Path]]] = {}
    for arm, runs in arms.items():
        for run in runs:
            for file in sorted_pictures(run.path) if run.path else ():
                found.setdefault(file.stem, {}).setdefault(arm, (run, file))
    limit = _PICTURE_BYTES / max(1, sum(map(len, found.values())))
    rows = []
    for name, by_arm in sorted(found.items()):
        shown = {
            arm: {"arm": arm, "seed": run.seed, "file": near(file), "image": _embed(file, limit)}
            for arm, (run, file) in by_arm.items()
        }
        rows.append({"name": name, "cells": [shown.get(arm) for arm in arms]})
    return rows


def _mean_cell(cells: Sequence[Any]) -> tuple[str, bool]:
    """Return the mean of a table's cell over seeds, and whether it is one seed's text because the seeds differ."""
    if all(cell == cells[0] for cell in cells):
        return alone(cells[0]), False
    numbers = [value for value in map(finite, cells) if value is not None]
    if len(numbers) < len(cells):
        return alone(cells[0]), True
    texts = [len(cell.partition(".")[2]) for cell in cells if isinstance(cell, str)]
    decimals = max(texts) if len(texts) == len(cells) else places(numbers)
    return written(statistics.fmean(numbers), decimals), False


def _frame(table: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what two tables must share to be averaged: columns, and name and length of every row."""
    return table["columns"], [(row[:1], len(row)) for row in table["rows"]]


def _is_figure(rows: Sequence[Sequence[Any]], place: int) -> bool:
    """Return whether a column holds numbers, which stand right."""
    return all(cell is None or number(cell) is not None for row in rows for cell in row[place : place + 1])


def _table(name: str, arm: str, runs: Sequence[Run]) -> dict[str, Any] | None:
    """Return an arm's table: the mean over its seeds where the tables are alike, else the first seed's."""
    found = []
    for run in runs:
        content = mapping(read_json(run.path / "tables" / f"{name}.json")) if run.path else {}
        columns, rows = content.get("columns"), content.get("rows")
        if isinstance(columns, list) and isinstance(rows, list) and all(isinstance(row, list) for row in rows):
            found.append((run.seed, content))
    if not found:
        return None
    first, table = found[0]
    seeds = ", ".join(str(seed) for seed, _ in found)
    alike = all(_frame(other) == _frame(table) for _, other in found)
    used = [content["rows"] for _, content in found] if alike else [table["rows"]]
    rows = [[_mean_cell(cells) for cells in zip(*same, strict=True)] for same in zip(*used, strict=True)]
    note = f"mean of seeds {seeds}" if len(used) > 1 else f"seed {first}"
    return {
        "name": name,
        "arm": arm,
        "columns": [(column, _is_figure(table["rows"], place)) for place, column in enumerate(table["columns"])],
        "rows": rows,
        "note": note if alike else f"{note} only; the tables of seeds {seeds} are not alike",
        "one_seed": first if any(single for row in rows for _, single in row) else None,
    }


def tables(arms: Arms) -> list[dict[str, Any]]:
    """Return every table of every arm, those of one name together."""
    folders = [run.path for runs in arms.values() for run in runs if run.path]
    names = sorted({file.stem for folder in folders for file in folder.glob("tables/*.json")})
    found = [_table(name, arm, runs) for name in names for arm, runs in arms.items()]
    return [table for table in found if table]
