"""A sweep's folder while it begins, a request to stop before a run begins, and what SLURM is asked about GPUs."""

import os
import shutil
import signal
from types import SimpleNamespace

import pytest

from common.errors import UserError
from common.files import write_json
from harness.config.compose import plain
from harness.config.job import Job
from harness.config.load import load
from harness.core import slurm
from harness.run import lifecycle
from harness.sweeps import outcomes


def test_a_sweep_that_cannot_begin_leaves_the_one_before(tmp_path):
    folder = tmp_path / "sweep"
    with outcomes.begun(folder):
        (folder / "0.json").write_text("{}")

    def refused():
        with outcomes.begun(folder):
            assert not list(folder.iterdir())
            raise UserError("sbatch: no")

    with pytest.raises(UserError):
        refused()
    assert [path.name for path in folder.iterdir()] == ["0.json"]
    with outcomes.begun(folder):
        pass
    assert not list(folder.iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["sweep"]


def test_jobs_that_may_wait_are_not_taken_for_ended_without_a_queue_to_ask(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    write_json(tmp_path / "submitted.json", {"array": "7", "last": "8", "overrides": [], "runs": [[], []]})
    (tmp_path / "0.json").write_text("{}")
    with pytest.raises(UserError, match="submitted as job 7, and there is no squeue here"), outcomes.begun(tmp_path):
        pass
    (tmp_path / "1.json").write_text("{}")
    with outcomes.begun(tmp_path):
        pass


@pytest.mark.parametrize("when", ["while", "before"])
def test_a_run_asked_to_stop_before_it_began_is_preempted(when, monkeypatch, tmp_path):
    monkeypatch.setattr(slurm, "_told", set())
    job = Job(plain(load(["experiment=uosr", f"runs={tmp_path}"])), "uosr", ["seed=1"])
    if when == "before":
        own = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
        slurm.listen()
        os.kill(os.getpid(), signal.SIGUSR1)
        for number, handler in own.items():
            signal.signal(number, handler)
    # What a run does while it waits for another one.
    monkeypatch.setattr(lifecycle, "_run_dependencies", lambda job: os.kill(os.getpid(), signal.SIGUSR1))
    outcome = lifecycle.run(job)
    assert (outcome.status, outcome.overrides) == ("preempted", ["seed=1"])
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert slurm.wants_requeue()


@pytest.mark.parametrize(
    ("partition", "told", "found"),
    [
        (None, "cpu* (null)\ngpu gpu:8(S:0)\n", None),
        (None, "cpu (null)\ngpu* gpu:8\n", 2),
        ("gpu", "gpu gpu:8\n", 2),
        ("cpu", "cpu (null)\n", None),
        (None, "", None),
    ],
)
def test_gpus_are_asked_for_where_the_jobs_partition_has_any(partition, told, found, monkeypatch):
    monkeypatch.setattr(slurm.subprocess, "run", lambda *x, **y: SimpleNamespace(stdout=told))
    assert slurm.gpus_to_ask_for("auto", 2, partition) == found
