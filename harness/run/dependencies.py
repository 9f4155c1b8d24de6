"""Running the runs that a run depends on: once each, by the same rules as any other, found by their identity."""

import time
from collections.abc import Callable
from dataclasses import replace

from harness.config.dependency_paths import dependency_folder
from harness.config.job import Job, Outcome
from harness.config.references import MARK, dependencies, dependency_job
from harness.core.ranks import launched_outside

POLL_SECONDS = 1


def run_dependencies(job: Job, run: Callable[[Job], Outcome]) -> Outcome | None:
    """Run every dependency of a job that is not done.

    Args:
        job: the dependent job.
        run: runs one job to its end.

    Returns:
        How the first one that did not end well ended, None if all are done.
    """
    for reference in dependencies(job.config):
        outcome = _run_once(reference, job, run)
        if outcome.status != "done":
            why = f"{reference}: {outcome.status}, but this run needs its weights ({outcome.folder})"
            return Outcome(outcome.status, lines=[*outcome.lines, why], overrides=job.overrides)
    return None


def _run_once(reference: str, job: Job, run: Callable[[Job], Outcome]) -> Outcome:
    folder, has_reported = dependency_folder(reference, job.config), False
    # Processes that srun or torchrun started run it together, as they do everything.
    together = job.processes > 1 and launched_outside()
    while folder.status != "done":
        if not together and folder.is_held():
            # Another run of the same sweep depends on it too and runs it.
            if not has_reported:
                print(f"waiting for {folder.path}, which another process is making", flush=True)
            has_reported = True
            time.sleep(POLL_SECONDS)
            continue
        print(f"first: {reference.removeprefix(MARK)}", flush=True)
        outcome = run(replace(dependency_job(reference, job.config), group=job.group))
        if outcome.status == "done" or not folder.is_held():
            return outcome
    return Outcome("done", str(folder.path))
