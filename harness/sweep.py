"""A sweep's own files: how each run ended, whatever launcher ran it, and the table at the end."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

from harness.errors import disk_trouble
from harness.folder import read_json, write_json
from harness.job import EXIT_CODES, Outcome
from harness.screen import show_table


def begin(folder: Path) -> None:
    """Make an empty folder for the outcomes.

    Raises:
        BadInputError: if the disk does not let us.
    """
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    except OSError as error:
        raise disk_trouble(error, folder) from None


def note_outcome(folder: Path, number: int, outcome: Outcome) -> None:
    """Write how one run of the sweep ended."""
    write_json(folder / f"{number}.json", asdict(outcome))


def _value(words: list[str], key: str) -> str:
    return next((word.partition("=")[2] for word in words if word.partition("=")[0].lstrip("+~") == key), "")


def end(folder: Path, axes: list[str]) -> int:
    """Print a table of all runs.

    Args:
        folder: the sweep's folder.
        axes: the swept keys.

    Returns:
        Exit code 0 if every run is done, else that of the first that is not.
    """
    outcomes = [Outcome(**json.loads(p.read_text())) for p in sorted(folder.glob("*.json"), key=lambda p: int(p.stem))]
    results = [read_json(Path(outcome.folder) / "result.json") or {} for outcome in outcomes]
    headline: list[str] = next((result["headline"] for result in results if result.get("headline")), [])
    rows = []
    for number, (outcome, result) in enumerate(zip(outcomes, results, strict=True)):
        metrics = result.get("metrics", {}) if outcome.status == "done" else {}
        figures = [metrics.get(key) for key in headline]
        seconds = result.get("cost", {}).get("seconds") if metrics else None
        swept = [_value(outcome.words, key) for key in axes]
        rows.append([number, *swept, outcome.status, *figures, seconds, Path(outcome.folder).name])
    short = [key.removeprefix("test/") for key in headline]
    show_table(f"sweep {folder.name}", ["run", *axes, "status", *short, "seconds", "folder"], rows)
    homes = ", ".join(sorted({str(Path(outcome.folder).parent) for outcome in outcomes if outcome.folder}))
    done = [outcome.status for outcome in outcomes]
    print(f"{done.count('done')} of {len(done)} runs done; their folders are in {homes}")
    return next((EXIT_CODES[status] for status in done if status != "done"), 0)
