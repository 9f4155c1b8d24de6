"""Waiting for submitit's jobs as the queue tells: what SLURM loses is noted, what goes back into the queue waited for.

submitit itself asks `sacct`, which says nothing where SLURM keeps no accounts, and takes a job that goes back into the
queue for one that has ended.
"""

import pickle
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher
from submitit.slurm.slurm import SlurmJob

from common.errors import UserError, print_errors
from harness.config.job import Outcome
from harness.sweeps import outcomes, slurm_array

# Seconds between two looks at the queue, and for which a result may be on its way through a shared disk.
_PAUSE, _ON_ITS_WAY = 2.0, 10.0


class _Lost(JobReturn):
    """What stands for the result of a job that left none."""

    def __init__(self) -> None:
        super().__init__(status=JobStatus.COMPLETED)
        self.return_value = None


@contextmanager
def as_the_queue_tells(folder: Path) -> Iterator[None]:
    """Let submitit's launcher wait in our way; runs whose jobs are lost are noted as failed in the sweep's folder."""
    jobs: list[SlurmJob[Any]] = []
    launch, results = SlurmLauncher.launch, SlurmJob.results

    def waited_for(job: "SlurmJob[Any]") -> list[Any]:
        jobs.append(job)
        _wait(job.job_id)
        return [_result(job)]

    def launched(self: Any, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        jobs.clear()
        try:
            returned = launch(self, job_overrides, initial_job_idx)
        except KeyboardInterrupt:
            known = " ".join(sorted({job.job_id.partition("_")[0] for job in jobs})) or "JOB"
            print(f"no longer waited for; jobs go on: squeue -j {known} tells of them, scancel {known} ends them")
            raise SystemExit(130) from None
        for place, (own, given, job) in enumerate(zip(returned, job_overrides, jobs, strict=True)):
            number, overrides = outcomes.number_of(given, initial_job_idx + place)
            if isinstance(own, _Lost) and not (folder / f"{number}.json").exists():
                line = f"run {number}: job {job.job_id} is gone from the queue without an end: see {job.paths.folder}"
                outcomes.note_outcome(folder, number, Outcome("failed", lines=[line], overrides=overrides))
                print_errors([line])
        return returned

    SlurmLauncher.launch = launched
    SlurmJob.results = waited_for  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        SlurmLauncher.launch, SlurmJob.results = launch, results  # type: ignore[method-assign]


def _result(job: "SlurmJob[Any]") -> JobReturn:
    """Return what the first task of a job that has left the queue returned."""
    end = time.monotonic() + _ON_ITS_WAY
    while not job.paths.result_pickle.exists():
        if time.monotonic() > end:
            return _Lost()
        time.sleep(_PAUSE / 4)
    outcome, value = pickle.loads(job.paths.result_pickle.read_bytes())  # noqa: S301 - submitit's own form
    if outcome == "error":
        print(value)
        return _Lost()
    return value


def _wait(job: str) -> None:
    """Return when a job, or a task of an array, is no longer in the queue."""
    absent = 0
    while absent < 2:
        try:
            is_there = job in slurm_array.states([job.partition("_")[0]])
        except UserError:
            # A controller that does not answer now will.
            is_there = True
        absent = 0 if is_there else absent + 1
        if absent < 2:
            time.sleep(_PAUSE)
