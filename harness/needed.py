"""Making the runs that a run needs: once each, by the same rules as any other, and found again by their identity."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from harness.folder import RunFolder
from harness.identity import run_folder
from harness.job import Job, Outcome, launched_outside
from harness.references import MARK, needed_job, references


def needed_folder(reference: str, config: Mapping[str, Any]) -> RunFolder:
    """Return the folder of the run that a reference stands for."""
    job = needed_job(reference, config)
    return RunFolder(run_folder(job.config, job.experiment, job.words))


def with_weights(node: Any, config: Mapping[str, Any]) -> Any:
    """Return a nest of plain values with every reference replaced by the path of that run's best weights."""
    if isinstance(node, str) and node.startswith(MARK):
        return str(needed_folder(node, config).checkpoints / "best.ckpt")
    if isinstance(node, Mapping):
        return {key: with_weights(value, config) for key, value in node.items()}
    return [with_weights(value, config) for value in node] if isinstance(node, list) else node


def run_needed(job: Job) -> Outcome | None:
    """Make every run that a job needs; returns how one that did not end well ended, None if all are there."""
    for reference in dict.fromkeys(references([job.config["model"], job.config["ckpt"]])):
        outcome = _make(reference, job)
        if outcome.status != "done":
            why = f"{reference}: {outcome.status}, but this run needs its weights ({outcome.folder})"
            return Outcome(outcome.status, lines=[*outcome.lines, why], words=job.words)
    return None


def _make(reference: str, job: Job) -> Outcome:
    from harness.life import live

    folder, told = needed_folder(reference, job.config), False
    # Processes that srun or torchrun started make it together, as they do everything.
    together = job.processes > 1 and launched_outside()
    while folder.status != "done":
        if not together and folder.is_held():
            # Another run of the same sweep needs it too and is making it.
            if not told:
                print(f"waiting for {folder.path}, which another process is making", flush=True)
            told = True
            time.sleep(1)
            continue
        print(f"first: {reference.removeprefix(MARK)}", flush=True)
        outcome = live(replace(needed_job(reference, job.config), group=job.group))
        if outcome.status == "done" or not folder.is_held():
            return outcome
    return Outcome("done", str(folder.path))
