"""A run that is given again: whether it is the one that was asked for, and its result, without importing torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.fingerprint import compared_files
from harness.config.identity import run_folder, runs_of_config
from harness.config.job import Outcome
from harness.config.lock_reader import read_lock
from harness.core.lock_file import changes_since, described
from harness.core.ranks import rank
from harness.core.run_folder import RunFolder


def finished(config: dict[str, Any], experiment: str, overrides: Sequence[str], group: str | None) -> Outcome | None:
    """Answer for a run that is finished; returns None if it has to be started or resumed.

    Args:
        config: the resolved config.
        experiment: the experiment's name.
        overrides: those that were given.
        group: the sweep that the run belongs to, which shows a table of its own.

    Raises:
        UserError: if weights or closed data hold something else than when the run was made.
    """
    if config["mode"] != "fit" or config["force"]:
        return None
    folder = RunFolder(run_folder(config, experiment, list(overrides)))
    if folder.status != "done" or folder.result is None:
        return None
    compare_files(folder, config)
    if rank() == 0:
        _show(folder, group)
    return Outcome("done", str(folder.path), overrides=list(overrides))


def _show(folder: RunFolder, group: str | None) -> None:
    if not group:
        from harness.core.screen import show_result

        show_result(folder.path)
    changed = changes_since(read_lock(folder.path) or {})
    remark = f"; changed since: {described(changed)}" if changed else ""
    print(f"{folder.path}: finished before, not repeated{remark}: force=true runs it again", flush=True)


def compare_files(folder: RunFolder, config: Mapping[str, Any]) -> None:
    """Raise UserError if weights or closed data hold something else than when the run in a folder was made."""
    before = (read_lock(folder.path) or {}).get("files", {})
    now = compared_files(config)
    differing = [key for key in before if key in now and now[key] != before[key]]
    if differing:
        raise UserError(
            *(
                f"{key}: holds something else than when {folder.path} was made ({before[key]} then, {now[key]} now):"
                " restore it, choose another runs=FOLDER, or force=true to run again"
                for key in differing
            )
        )


def other_data(folder: Path, config: dict[str, Any]) -> str | None:
    """Return a line that names runs of the same config with other data, None if there are none."""
    others = [path for path in runs_of_config(folder.parent, config) if path != folder]
    if not others:
        return None
    return f"{folder}: other data than {', '.join(path.name for path in others)}, with the same config"
