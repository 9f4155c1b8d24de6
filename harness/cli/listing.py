"""The listing: every experiment and every claim, a line each, with cost and verdict."""

from typing import Any

from rich.table import Table

from common.files import read_json
from harness.config.compose import options
from harness.config.yaml_files import read_yaml
from harness.core.paths import CONF, RESULTS
from harness.core.screen import console


def show_listing() -> int:
    """Print experiments, claims with their verdicts, and how to run them."""
    claims = {name: read_yaml(CONF / "claim" / f"{name}.yaml")["claim"] for name in options("claim")}
    results = {name: read_json(RESULTS / f"{name}.json") or {} for name in claims}
    table = _table("experiment", "what it does", "takes", "verdict")
    for name in options("experiment"):
        entry = read_yaml(CONF / "experiment" / f"{name}.yaml")
        table.add_row(name, entry.get("about", ""), entry.get("takes", ""), _verdict_on(name, claims, results))
    claimed = _table("claim", "statement", "takes", "verdict")
    for name, claim in claims.items():
        verdicts = {said["name"]: said["verdict"] for said in results[name].get("statements", [])}
        for number, (statement, said) in enumerate(claim["statements"].items()):
            first = (name, claim["takes"]) if number == 0 else ("", "")
            claimed.add_row(first[0], said["text"], first[1], verdicts.get(statement, "not yet measured"))
    screen = console()
    screen.print(table)
    screen.print()
    screen.print(claimed)
    screen.print(
        "\npython run.py experiment=NAME [key=value ...]     --help: the groups and keys", highlight=False, markup=False
    )
    screen.print(
        "python run.py claim=NAME [seeds=5 ...]            all its arms and seeds, then its report", highlight=False
    )
    return 0


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column)
    return table


def _verdict_on(experiment: str, claims: dict[str, Any], results: dict[str, Any]) -> str:
    """Return the verdict of the claims that have an experiment among their arms."""
    told = {
        name: results[name].get("verdict", "not yet measured")
        for name, claim in claims.items()
        if any(f"experiment={experiment}" in arm["words"].split() for arm in claim["arms"].values())
    }
    return ", ".join(told.values())
