"""The listing: every experiment, and every claim with its statements, a line each, with cost and verdict."""

from typing import Any

from rich.table import Table

from common.files import read_json
from harness.claims.wording import tally_text, verdict_text
from harness.config.compose import options
from harness.config.yaml_files import read_yaml
from harness.core.paths import CONF, RESULTS
from harness.core.screen import console

NOT_MEASURED = "not yet measured"


def show_listing() -> int:
    """Print experiments, claims with their verdicts, and how to run them."""
    claims = {name: read_yaml(CONF / "claim" / f"{name}.yaml")["claim"] for name in options("claim")}
    results = {name: read_json(RESULTS / f"{name}.json") or {} for name in claims}
    table = _table("experiment", "what it does", "runtime", "verdict")
    for name in options("experiment"):
        entry = read_yaml(CONF / "experiment" / f"{name}.yaml")
        table.add_row(name, entry.get("description", ""), entry.get("runtime", ""), _verdict_on(name, claims, results))
    claimed = _table("claim", "role", "what was learned, and what its statements say", "runtime", "verdict")
    for name, claim in claims.items():
        _add_claim(claimed, name, claim, results[name])
    screen = console()
    screen.print(table)
    screen.print()
    screen.print(claimed)
    screen.print(
        "\npython run.py experiment=NAME [key=value ...]     --help: the groups and keys", highlight=False, markup=False
    )
    screen.print(
        "python run.py claim=NAME [seeds=5 ...]            all its arms and seeds, then its report",
        highlight=False,
        markup=False,
    )
    return 0


def _add_claim(table: Table, name: str, claim: dict[str, Any], result: dict[str, Any]) -> None:
    verdict = verdict_text(result) if result else NOT_MEASURED
    table.add_row(name, "", result.get("learned") or claim["text"], claim.get("runtime", ""), verdict, style="bold")
    if result:
        table.add_row("", "", tally_text(result.get("tally")), "", "")
    verdicts = {statement["name"]: statement["verdict"] for statement in result.get("statements", [])}
    for statement, said in claim["statements"].items():
        table.add_row(f"  {statement}", said.get("role", ""), said["text"], "", verdicts.get(statement, NOT_MEASURED))


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column)
    return table


def _verdict_on(experiment: str, claims: dict[str, Any], results: dict[str, Any]) -> str:
    """Return the verdict of the claims that have an experiment among their arms."""
    verdicts = {
        name: verdict_text(results[name]) if results[name] else NOT_MEASURED
        for name, claim in claims.items()
        if any(f"experiment={experiment}" in arm.get("overrides", "").split() for arm in claim["arms"].values())
    }
    return ", ".join(verdicts.values())
