"""Waiting for submitit's jobs by what `squeue` lists, without a SLURM."""

import json

import pytest
from hydra.core.utils import JobReturn, JobStatus
from submitit import SlurmJob
from submitit.core.utils import DelayedSubmission, cloudpickle_dump
from submitit.slurm import slurm

from common.errors import UserError
from harness.sweeps import slurm_array, submitit_queue
from harness.sweeps.outcomes import numbered


@pytest.fixture
def queue(monkeypatch):
    """What the queue lists, by job; None where the controller does not answer."""
    listed = {"states": {}}

    def states(jobs):
        if listed["states"] is None:
            raise UserError("squeue: no answer")
        return {name: state for name, state in listed["states"].items() if name.partition("_")[0] in jobs}

    monkeypatch.setattr(slurm_array, "states", states)
    monkeypatch.setattr(submitit_queue.QueueJob, "_results_timeout_s", 0)
    return listed


def asked(watcher, job):
    """Return what the watcher says of a job after another call of squeue."""
    watcher.update()
    return watcher.is_done(job, mode="cache")


def test_a_job_is_done_when_two_calls_in_a_row_do_not_list_it(queue):
    watcher = submitit_queue.QueueWatcher()
    watcher.register_job("7_0")
    # Those of SLURM's states that submitit takes for ends are none.
    for state in ("PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "REQUEUE_HOLD"):
        queue["states"] = {"7_0": state, "7_1": "RUNNING"}
        assert not asked(watcher, "7_0")
        assert watcher.get_state("7_0", mode="cache") == state
    queue["states"] = {"7_1": "RUNNING"}
    assert not asked(watcher, "7_0")
    # Requeued: absent once, then listed again.
    queue["states"] = {"7_0": "PENDING"}
    assert not asked(watcher, "7_0")
    queue["states"] = {}
    assert not asked(watcher, "7_0")
    queue["states"] = None
    assert not asked(watcher, "7_0")
    assert not asked(watcher, "7_0")
    queue["states"] = {}
    assert asked(watcher, "7_0")


def submit(folder, number, overrides, tasks=(0,)):
    """Leave what submitit leaves of a submitted run; returns its job."""
    job = slurm.SlurmJob(folder / ".submitit" / "%j", f"7_{number}", tasks=tasks)
    job.paths.folder.mkdir(parents=True, exist_ok=True)
    DelayedSubmission(print, numbered(overrides, number + 3), "hydra.sweep.dir", number).dump(
        job.paths.submitted_pickle
    )
    return job


def returned(job, outcome, value):
    cloudpickle_dump((outcome, value), job.paths.result_pickle)


def test_submitit_makes_our_jobs_while_a_sweep_waits(queue, tmp_path):
    with submitit_queue.queue_jobs(tmp_path):
        assert slurm.SlurmExecutor.job_class is slurm.SlurmJob is submitit_queue.QueueJob
        assert type(submit(tmp_path, 0, []).watcher) is submitit_queue.QueueWatcher
    assert slurm.SlurmExecutor.job_class is slurm.SlurmJob is SlurmJob
    assert type(SlurmJob.watcher) is slurm.SlurmInfoWatcher


def test_lost_and_broken_jobs_are_failed_runs_and_do_not_end_the_sweep(queue, tmp_path, capsys):
    done = JobReturn(status=JobStatus.COMPLETED)
    done.return_value = 0.5
    with submitit_queue.queue_jobs(tmp_path):
        jobs = [submit(tmp_path, number, [f"seed={number}"]) for number in range(3)]
        returned(jobs[0], "success", done)
        returned(jobs[2], "error", "Traceback: what the job said")
        for _ in range(2):
            submitit_queue.QueueJob.watcher.update()
        # What Hydra's launcher does.
        values = [job.results()[0].return_value for job in jobs]
    assert values == [0.5, None, None]
    outcomes = {path.name: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert outcomes.keys() == {"4.json", "5.json"}
    assert outcomes["4.json"]["status"] == "failed"
    assert outcomes["4.json"]["overrides"] == ["seed=1"]
    said = capsys.readouterr()
    assert said.err.count("is gone from the queue without an end") == 2
    assert f"run 4: job 7_1 is gone from the queue without an end: see {tmp_path}/.submitit/7_1" in said.err
    assert "what the job said" in said.out


def test_what_a_run_itself_noted_stays(queue, tmp_path):
    with submitit_queue.queue_jobs(tmp_path):
        job = submit(tmp_path, 0, ["seed=0"], tasks=(0, 1))
        returned(job.task(0), "success", JobReturn(status=JobStatus.COMPLETED))
        (tmp_path / "3.json").write_text('{"status": "done"}')
        for _ in range(2):
            submitit_queue.QueueJob.watcher.update()
        assert len(job.results()) == 2
    assert json.loads((tmp_path / "3.json").read_text()) == {"status": "done"}


def test_ctrl_c_ends_the_waiting_and_names_the_jobs(queue, tmp_path, capsys):
    def interrupted():
        with submitit_queue.queue_jobs(tmp_path):
            submit(tmp_path, 0, [])
            submit(tmp_path, 1, [])
            raise KeyboardInterrupt

    with pytest.raises(SystemExit) as error:
        interrupted()
    assert error.value.code == 130
    assert "squeue -j 7 tells of them, scancel 7 ends them" in capsys.readouterr().out
    assert slurm.SlurmJob is SlurmJob
