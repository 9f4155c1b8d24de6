"""submitit's jobs as `squeue` reports them: requeued jobs are awaited, jobs that SLURM loses count as failed.

submitit itself asks `sacct`, which says nothing where SLURM keeps no accounts.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.utils import JobReturn, JobStatus
from submitit.core.utils import FailedJobError, UncompletedJobError
from submitit.slurm import slurm

from common.errors import UserError, print_errors
from harness.config.job import Outcome
from harness.sweeps import outcomes, slurm_array

# Seconds between two calls of squeue, and for which a result may be on its way through a shared disk.
POLL_SECONDS, RESULT_SECONDS = 2, 10
# Calls in a row that must not list a job: one that is being requeued may be missing from a single one.
MIN_ABSENCES = 2


class QueueWatcher(slurm.SlurmInfoWatcher):
    """Answers for all jobs of a sweep at once; a job is done when the queue no longer lists it."""

    def __init__(self) -> None:
        super().__init__(delay_s=POLL_SECONDS)
        self._absences: Counter[str] = Counter()

    @property
    def jobs(self) -> list[str]:
        """The ids of the submitted jobs, without the places of an array."""
        return sorted({job.partition("_")[0] for job in self._registered})

    def update(self) -> None:
        """Ask the queue for every job; a controller that does not answer now will do so later."""
        self._num_calls += 1
        try:
            states = slurm_array.states(self.jobs)
        except UserError:
            return
        finally:
            self._last_status_check = time.time()
        for job in self._registered:
            self._absences[job] = 0 if job in states else self._absences[job] + 1
            self._info_dict[job] = {"State": states.get(job, "not in the queue")}

    def is_done(self, job_id: str, mode: str = "standard") -> bool:
        """Return whether a job has left the queue for good."""
        self.get_info(job_id, mode)
        return self._absences[job_id] >= MIN_ABSENCES


class QueueJob(slurm.SlurmJob[Any]):
    """A job of a sweep. One that left no result is a failed run and does not end the sweep."""

    watcher = QueueWatcher()
    sweep: ClassVar[Path]
    _results_timeout_s = RESULT_SECONDS

    def results(self) -> list[Any]:
        """Wait for the job and return what its tasks returned, an empty return for a task that left nothing."""
        try:
            return super().results()
        except FailedJobError as error:
            print(error)
        except UncompletedJobError:
            pass
        self._note_failed()
        lost = JobReturn(status=JobStatus.COMPLETED)
        lost.return_value = None
        return [lost]

    def _note_failed(self) -> None:
        """Write the outcome of the run, unless the run itself did."""
        overrides, _, place, *_ = self.submission().args
        number, own = outcomes.number_of(overrides, place)
        if not (self.sweep / f"{number}.json").exists():
            line = f"run {number}: job {self.job_id} is gone from the queue without an end: see {self.paths.folder}"
            outcomes.note_outcome(self.sweep, number, Outcome("failed", lines=[line], overrides=own))
            print_errors([line])


@contextmanager
def queue_jobs(folder: Path) -> Iterator[None]:
    """Let submitit make its SLURM jobs of `QueueJob`; lost ones are noted in the sweep's folder."""
    before = slurm.SlurmExecutor.job_class, slurm.SlurmJob
    QueueJob.sweep, QueueJob.watcher = folder, QueueWatcher()
    # submitit takes `job_class` for a single job, but makes the jobs of an array of the class that has this name.
    slurm.SlurmExecutor.job_class = slurm.SlurmJob = QueueJob  # type: ignore[misc]
    try:
        yield
    except KeyboardInterrupt:
        known = " ".join(QueueJob.watcher.jobs) or "JOB"
        print(f"no longer waited for; jobs go on: squeue -j {known} tells of them, scancel {known} ends them")
        raise SystemExit(130) from None
    finally:
        slurm.SlurmExecutor.job_class, slurm.SlurmJob = before  # type: ignore[misc]
