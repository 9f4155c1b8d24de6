"""Every claim in one table: verdict, tally and what was learned, from the runs here or else as published."""

from pathlib import Path
from typing import Any

from common.files import read_json
from harness.claims.wording import design_text, tally_text, verdict_text
from harness.config.compose import options
from harness.config.yaml_files import read_yaml
from harness.core.paths import CONF, RESULTS
from harness.core.screen import show_table

# What stands for every claim in `claim=all mode=report`.
ALL_CLAIMS = "all"


def show_overview(runs: Path) -> None:
    """Print a row for each claim file.

    Args:
        runs: the folder of runs; a claim that has been judged there is shown as it was, others as published.
    """
    rows, lines = [], []
    for name in options("claim"):
        content, place = _content(name, runs)
        if content is None:
            text = read_yaml(CONF / "claim" / f"{name}.yaml")["claim"]["text"]
            rows.append([name, "not yet measured", "", text, ""])
            continue
        rows.append([name, verdict_text(content), tally_text(content["tally"]), content["learned"], place])
        if mark := design_text(content):
            lines.append(f"{name}: {mark}")
    show_table("claims", ["claim", "verdict", "statements", "what was learned", "from"], rows)
    for line in lines:
        print(line)


def _content(name: str, runs: Path) -> tuple[dict[str, Any] | None, str]:
    """Return the content of a claim's newest verdict, and where it is from."""
    file = runs / "claims" / name / "claim.json"
    if here := read_json(file):
        return here, str(file.parent)
    published = read_json(RESULTS / f"{name}.json")
    return published, f"docs/results/{name}.json"
