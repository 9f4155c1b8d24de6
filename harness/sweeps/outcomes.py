"""A sweep's own files: how each run ended, whatever launcher ran it, and the table at the end."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from common.errors import UserError, disk_error
from common.files import read_json, write_json
from harness.config.job import EXIT_CODES, Outcome
from harness.core.screen import show_table
from harness.sweeps import slurm_array


@contextmanager
def begun(folder: Path) -> Iterator[None]:
    """Make an empty folder for the outcomes; what was there before comes back if the sweep cannot begin.

    Raises:
        UserError: if the disk does not let us, or jobs of this sweep are or may be in the queue.
    """
    _refuse_waiting(folder)
    before = folder.with_name(f"{folder.name}.before")
    try:
        shutil.rmtree(before, ignore_errors=True)
        if folder.exists():
            folder.rename(before)
        folder.mkdir(parents=True)
    except OSError as error:
        raise disk_error(error, folder) from None
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if before.exists():
            before.rename(folder)
        raise
    shutil.rmtree(before, ignore_errors=True)


def _refuse_waiting(folder: Path) -> None:
    given = read_json(folder / "submitted.json") or {}
    jobs = [given[key] for key in ("array", "last") if key in given]
    jobs += {path.name.partition("_")[0] for path in folder.glob(".submitit/*_*")}
    if waiting := slurm_array.states(jobs):
        known = ", ".join(sorted({name.partition("_")[0] for name in waiting}))
        raise UserError(f"{folder}: this sweep is in the queue (job {known}): look at mode=status, or scancel {known}")
    has_ended = all((folder / f"{number}.json").exists() for number in range(len(given.get("runs", []))))
    if not has_ended and shutil.which("squeue") is None:
        raise UserError(
            f"{folder}: this sweep was submitted as job {given['array']}, and there is no squeue here that could tell"
            " whether it has ended: go where SLURM is, or remove that folder"
        )


def note_outcome(folder: Path, number: int, outcome: Outcome) -> None:
    """Write how one run of the sweep ended."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{number}.json", asdict(outcome))


def numbered(overrides: list[str], number: int) -> list[str]:
    """Return the overrides of a run for a launcher, which would number it by its place among those launched."""
    return [*overrides, f"+hydra.job.env_set.{slurm_array.RUN}={number}"]


def number_of(overrides: Sequence[str], place: int) -> tuple[int, list[str]]:
    """Return the number of a run and its own overrides from what a launcher was given, `place` without a number."""
    *own, last = overrides
    key, _, number = last.partition("=")
    return (int(number), own) if key.endswith(f".{slurm_array.RUN}") else (place, list(overrides))


def _value(overrides: list[str], key: str) -> str:
    return next(
        (override.partition("=")[2] for override in overrides if override.partition("=")[0].lstrip("+~") == key), ""
    )


def end(folder: Path, axes: list[str]) -> int:
    """Print a table of all runs.

    Args:
        folder: the sweep's folder.
        axes: the swept keys.

    Returns:
        Exit code 0 if every run is done, else that of the first that is not.
    """
    noted = folder.glob("[0-9]*.json")
    found = {int(path.stem): Outcome(**json.loads(path.read_text())) for path in noted}
    for number, own in enumerate((read_json(folder / "submitted.json") or {}).get("runs", [])):
        # A job that SLURM lost has left nothing.
        found.setdefault(number, Outcome("failed", overrides=own))
    outcomes = [outcome for _, outcome in sorted(found.items())]
    results = [(outcome.folder and read_json(Path(outcome.folder) / "result.json")) or {} for outcome in outcomes]
    headline: list[str] = next((result["headline"] for result in results if result.get("headline")), [])
    rows = []
    for number, (outcome, result) in enumerate(zip(outcomes, results, strict=True)):
        metrics = result.get("metrics", {}) if outcome.status == "done" else {}
        figures = [metrics.get(key) for key in headline]
        seconds = result.get("cost", {}).get("seconds") if metrics else None
        swept = [_value(outcome.overrides, key) for key in axes]
        rows.append([number, *swept, outcome.status, *figures, seconds, Path(outcome.folder).name])
    short = [key.removeprefix("test/") for key in headline]
    show_table(f"sweep {folder.name}", ["run", *axes, "status", *short, "seconds", "folder"], rows)
    homes = ", ".join(sorted({str(Path(outcome.folder).parent) for outcome in outcomes if outcome.folder}))
    done = [outcome.status for outcome in outcomes]
    print(f"{done.count('done')} of {len(done)} runs done; their folders are in {homes}")
    return next((EXIT_CODES[status] for status in done if status != "done"), 0)
