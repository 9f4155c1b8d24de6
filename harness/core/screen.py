"""What is said on screen: tables, and where everything of a finished run lies."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from common.files import read_json

WIDTH = 150


def console() -> Console:
    """Return the screen, or a wide page where the output goes to a file."""
    return Console() if sys.stdout.isatty() else Console(width=WIDTH)


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table; numbers stand right, with two decimals."""
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for i, column in enumerate(columns):
        numbers = bool(rows) and all(isinstance(row[i], int | float) or row[i] is None for row in rows)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(f"{v:.2f}" if isinstance(v, float) else "" if v is None else str(v) for v in row))
    console().print(table)


def show_result(folder: Path) -> None:
    """Print the tables of a finished run, its cost, and where everything lies."""
    result = read_json(folder / "result.json") or {}
    tables = sorted((folder / "tables").glob("*.json"))
    for file in tables:
        content = read_json(file)
        show_table(file.stem, content["columns"], content["rows"])
    metrics = result.get("metrics", {})
    chosen = result.get("headline") or ([] if tables else sorted(k for k in metrics if k.startswith("test/")))
    if chosen:
        show_table("metrics", ["metric", "value"], [[k, metrics[k]] for k in chosen if k in metrics])
    cost = result.get("cost", {})
    places = {
        "cost": f"{cost.get('seconds', 0):.0f} s training, {cost.get('test_seconds', 0):.0f} s test,"
        f" {cost.get('parameters', 0):,} parameters, {cost.get('steps', 0):,} steps",
        "run folder": folder,
        "result": folder / "result.json",
        "curves": folder / "metrics.jsonl",
        "weights": folder / "checkpoints" / "best.ckpt",
    }
    if result.get("pictures"):
        places["pictures"] = folder / "pictures"
    grid = Table.grid(padding=(0, 2))
    for name, place in places.items():
        grid.add_row(f"[bold]{name}[/bold]", _near(place))
    console().print(grid)


def _near(place: Any) -> str:
    path = Path(str(place))
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else str(place)
