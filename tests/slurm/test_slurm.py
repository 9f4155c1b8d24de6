"""Runs on a real SLURM of one node: sweeps, submit and leave, requeueing, processes under srun."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.forks import ENVIRONMENT, ROOT
from tests.cli.quire import TINY, assert_same_run, command, only_folder, quire, read
from tests.cli.test_faults import RANK, with_custom
from tests.slurm.cluster import CPUS, Cluster, is_installed
from tests.tiers import full

pytestmark = pytest.mark.skipif(not is_installed(), reason="no slurm-wlm")
SLURM = ("hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.timeout_min=20")
DETACHED = ("hydra/launcher=slurm_detached", *SLURM[1:])
# Enough batches to be stopped among, each saved.
LONG = ("trainer.limit_train_batches=60", "trainer.max_epochs=3", "callbacks.resume.every_seconds=0")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


def environment(cluster):
    return cluster.environment | ENVIRONMENT | {"PATH": cluster.environment["PATH"]}


def typed(cluster, *words, root=ROOT, timeout=900):
    """Type a command line where SLURM is; returns the finished process."""
    line = command(*words)
    line[1] = str(root / "run.py")
    given = environment(cluster)
    return subprocess.run(line, cwd=root, env=given, capture_output=True, text=True, timeout=timeout, check=False)


def until(condition, seconds=600):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the moment waited for never came"
        time.sleep(0.1)


def rows(runs):
    return sum(path.read_text().count("\n") for path in Path(runs).glob("uosr/*/metrics.jsonl"))


@pytest.mark.parametrize("seeds", ["0", *full("0,1")])
def test_a_sweep_is_an_array_with_a_folder_for_each_run(seeds, cluster, tmp_path):
    words = ("model.optimizer.lr=1e-3,1e30",)
    count = len(seeds.split(","))
    done = typed(cluster, "-m", *TINY, f"seed={seeds}", *words, *SLURM, f"runs={tmp_path}")
    assert f"{count} of {2 * count} runs done" in done.stdout, done.stdout + done.stderr
    # The launcher calls jobs completed that are not; our own files do not.
    assert done.returncode == 1
    states = [read(folder / "status.json")["status"] for folder in (tmp_path / "uosr").iterdir()]
    assert sorted(states) == ["done"] * count + ["failed"] * count


@pytest.mark.full
def test_a_claim(cluster, tmp_path):
    done = typed(cluster, "claim=uosr", "debug=tiny", "seed=0", *SLURM, f"runs={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((tmp_path / "claims").glob("uosr*/report.html"))) == 1


@pytest.mark.full
def test_submit_and_leave(cluster, tmp_path):
    # A copy of the project, for its code is edited while the jobs wait, at a place with a space in its name.
    root = tmp_path / "a project"
    copied = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in copied.stdout.splitlines():
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    cluster.run("scontrol", "update", "partitionname=main", "state=down")
    done = typed(cluster, "-m", *TINY, "seed=0,1", *DETACHED, root=root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "python run.py mode=status" in done.stdout
    status = typed(cluster, "mode=status", root=root)
    assert status.stdout.count("pending") == 3, status.stdout + status.stderr
    again = typed(cluster, "-m", *TINY, "seed=0,1", *DETACHED, root=root)
    assert again.returncode == 2
    assert "this sweep is in the queue" in again.stderr
    # What is edited now changes nothing of what waits.
    (root / "lightning_modules" / "uosr" / "module.py").write_text("raise SystemExit('edited')\n")
    (root / "conf" / "config.yaml").write_text("broken: [\n")
    cluster.run("scontrol", "update", "partitionname=main", "state=up")
    cluster.wait_until_empty()
    folder = next((root / "runs" / ".sweeps").iterdir())
    assert [read(folder / f"{k}.json")["status"] for k in range(2)] == ["done", "done"], log(folder)
    assert "2 of 2 runs done" in (folder / "logs" / "end.out").read_text()
    assert "SRUN_CPUS_PER_TASK" in (folder / "run.sh").read_text()
    assert len(list((root / "runs" / "uosr").iterdir())) == 2


def log(folder):
    return "\n".join(path.read_text() for path in (folder / "logs").iterdir())


@pytest.mark.full
def test_a_job_that_slurm_lost_is_told(cluster, tmp_path):
    options = ("hydra.launcher.name=mine", "+hydra.launcher.additional_parameters.mail_type=NONE")
    words = (*TINY, *LONG, "seed=0", *DETACHED, *options, f"runs={tmp_path}")
    cluster.run("scontrol", "update", "partitionname=main", "state=down")
    done = typed(cluster, *words)
    assert f"to look: python run.py mode=status runs={tmp_path}" in done.stdout, done.stdout + done.stderr
    assert set(cluster.run("squeue", "-h", "-o", "%j").split()) == {"mine", "mine-end"}
    refused = typed(cluster, *words[:-1], "+hydra.launcher.reservation=night", f"runs={tmp_path / 'other'}")
    assert refused.returncode == 2
    assert "additional_parameters.reservation=" in refused.stderr
    cluster.run("scancel", run_of(tmp_path))
    cluster.run("scontrol", "update", "partitionname=main", "state=up")
    cluster.wait_until_empty()
    folder = next((tmp_path / ".sweeps").iterdir())
    assert "0 of 1 runs done" in (folder / "logs" / "end.out").read_text()
    assert "without an end" in " ".join(typed(cluster, "mode=status", f"runs={tmp_path}").stdout.split())


@pytest.mark.full
def test_a_claim_submitted_writes_its_report_behind_the_last_run(cluster, tmp_path):
    done = typed(cluster, "claim=uosr", "debug=tiny", "seed=0", *DETACHED, f"runs={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    cluster.wait_until_empty()
    assert len(list((tmp_path / "claims").glob("uosr*/report.html"))) == 1
    status = typed(cluster, "mode=status", f"runs={tmp_path}")
    assert "done" in status.stdout
    assert "pending" not in status.stdout


def run_of(runs):
    """Return the job of the only run of the only submitted sweep."""
    (given,) = Path(runs).glob(".sweeps/*/submitted.json")
    return f"{read(given)['array']}_0"


@pytest.fixture(scope="module")
def straight(shared_run):
    return shared_run(*TINY, *LONG).folder()


@pytest.mark.parametrize("how", ["requeue", *full("time")])
def test_a_job_that_goes_back_into_the_queue_ends_as_if_it_had_not(how, cluster, straight, tmp_path):
    words = [*TINY, *LONG, *DETACHED, "logger=wandb", f"runs={tmp_path}"]
    assert typed(cluster, *words).returncode == 0
    until(lambda: rows(tmp_path) > 20)
    job = run_of(tmp_path)
    if how == "requeue":
        cluster.run("scontrol", "requeue", job)
    else:
        # What SLURM does when the time of a job is nearly over.
        cluster.run("scancel", "--signal=USR1", job)
    cluster.wait_until_empty()
    folder = only_folder(tmp_path)
    assert_same_run(straight, folder)
    # One run of W&B with all rows, of the id that the identity gives.
    (mirrored,) = (folder / "wandb").glob("offline-run-*")
    assert mirrored.name.endswith(read(folder / "lock.json")["identity"])
    sweep = next((tmp_path / ".sweeps").iterdir())
    assert "goes on from its last resume point" in log(sweep)
    if how == "time":
        assert "goes back into the queue" in log(sweep)


@pytest.mark.full
def test_preempted_with_a_time_of_grace(cluster, straight, tmp_path):
    assert typed(cluster, *TINY, *LONG, *DETACHED, f"runs={tmp_path}").returncode == 0
    until(lambda: rows(tmp_path) > 20)
    # It asks for all processors.
    cluster.run("sbatch", "-p", "urgent", "-c", str(CPUS), "--output=/dev/null", "--wrap", "sleep 1")
    cluster.wait_until_empty()
    assert_same_run(straight, only_folder(tmp_path))
    assert "goes back into the queue" in log(next((tmp_path / ".sweeps").iterdir()))


@pytest.mark.full
def test_cancelled_and_typed_again(cluster, straight, tmp_path):
    words = [*TINY, *LONG, *DETACHED, f"runs={tmp_path}"]
    assert typed(cluster, *words).returncode == 0
    until(lambda: rows(tmp_path) > 20)
    cluster.run("scancel", run_of(tmp_path))
    cluster.wait_until_empty()
    assert read(only_folder(tmp_path) / "status.json")["status"] == "preempted"
    assert typed(cluster, *words).returncode == 0
    cluster.wait_until_empty()
    assert_same_run(straight, only_folder(tmp_path))


def srun(cluster, *words, tasks=2, before=()):
    line = [*before, "srun", f"--ntasks-per-node={tasks}", *command(*words)]
    given = environment(cluster)
    return subprocess.run(line, cwd=ROOT, env=given, capture_output=True, text=True, timeout=900, check=False)


@pytest.mark.full
def test_two_tasks_are_as_one_process(cluster, tmp_path):
    words = (*TINY, "model.objective=oe", "hardware.precision=64-true")
    assert quire(*words, "hardware=cpu", f"runs={tmp_path / 'one'}").returncode == 0
    done = srun(cluster, *words, "hardware=ddp_cpu", f"runs={tmp_path / 'two'}")
    assert done.returncode == 0, done.stdout + done.stderr
    one, two = (only_folder(tmp_path / name) for name in ("one", "two"))
    assert one.name == two.name
    first, second = ([json.loads(line) for line in (f / "metrics.jsonl").read_text().splitlines()] for f in (one, two))
    assert len(first) == len(second) > 10
    for a, b in zip(first, second, strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-5)


@pytest.mark.full
def test_tasks_all_learn_that_there_is_nothing_to_do(cluster, tmp_path):
    words = (*TINY, "hardware=ddp_cpu", f"runs={tmp_path}")
    # What salloc starts is called "interactive", and its steps are, too.
    for _ in range(2):
        done = srun(cluster, *words, before=["salloc", "-n2"])
        assert done.returncode == 0, done.stdout + done.stderr
    assert "finished before, not repeated" in done.stdout
    folder = only_folder(tmp_path)
    # One task alone finds the run held; the other does not wait for it for ever.
    with (folder / ".held").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = srun(cluster, *words, "force=true")
    assert done.returncode != 0
    assert "is running this very run" in done.stderr


@pytest.mark.full
def test_a_sweep_of_two_process_runs(cluster, tmp_path):
    done = typed(cluster, "-m", *TINY, "hardware=ddp_cpu", "seed=0,1", *SLURM, f"runs={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 runs done" in done.stdout
    assert len(list((tmp_path / "uosr").iterdir())) == 2


@pytest.mark.full
def test_a_task_that_fails_ends_the_step_with_its_own_words(cluster, tmp_path):
    done = srun(cluster, *TINY, "hardware=ddp_cpu", "model.optimizer.lr=1e30", f"runs={tmp_path}")
    assert done.returncode != 0
    assert "the loss is nan at step" in done.stdout + done.stderr
    assert read(only_folder(tmp_path) / "status.json")["status"] == "failed"


@pytest.mark.full
def test_tasks_that_are_not_the_devices_get_one_line(cluster, tmp_path):
    done = srun(cluster, *TINY, "hardware=ddp_cpu", f"runs={tmp_path}", tasks=3)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "devices" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.full
def test_one_task_that_breaks_ends_all_with_its_own_words(cluster, tmp_path):
    given = {"SLURM_CONF": cluster.environment["SLURM_CONF"], "PATH": cluster.environment["PATH"]}
    words = (*TINY, "hardware=ddp_cpu", f"runs={tmp_path / 'runs'}")
    done = with_custom(tmp_path, RANK, *words, before=["srun", "--ntasks-per-node=2"], **given)
    assert done.returncode != 0
    assert "only this process breaks" in done.stdout + done.stderr
    assert read(only_folder(tmp_path / "runs") / "status.json")["status"] == "failed"


@pytest.mark.full
def test_a_run_longer_than_its_time_takes_several_turns(cluster, tmp_path):
    long = ("trainer.limit_train_batches=60", "trainer.max_epochs=40", "callbacks.resume.every_seconds=0")
    limits = ("hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=20")
    done = typed(cluster, *TINY, *long, *DETACHED[:2], *limits, f"runs={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    cluster.wait_until_empty(1200)
    sweep = next((tmp_path / ".sweeps").iterdir())
    assert read(only_folder(tmp_path) / "status.json")["status"] == "done", log(sweep)
    assert "goes back into the queue" in log(sweep)
    assert read(sweep / "0.json")["status"] == "done"


@pytest.mark.full
def test_a_sweep_that_is_waited_for_goes_back_into_the_queue_too(cluster, straight, tmp_path):
    words = command("-m", *TINY, *LONG, *SLURM, f"runs={tmp_path}")
    given = environment(cluster)
    waiting = subprocess.Popen(words, cwd=ROOT, env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    until(lambda: rows(tmp_path) > 20)
    cluster.run("scancel", "--signal=USR1", cluster.jobs()[0][0])
    cluster.wait_until_empty()
    said, _ = waiting.communicate(timeout=600)
    assert waiting.returncode == 0, said
    assert "1 of 1 runs done" in said
    assert_same_run(straight, only_folder(tmp_path))


@pytest.mark.full
@pytest.mark.parametrize("how", ["requeued", "lost"])
def test_a_sweep_is_waited_for_as_the_queue_tells(how, cluster, straight, tmp_path):
    # Typed without -m: a run for the queue is not trained here.
    words = command(*TINY, *LONG, *SLURM, f"runs={tmp_path}")
    given = environment(cluster)
    waiting = subprocess.Popen(words, cwd=ROOT, env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    until(lambda: rows(tmp_path) > 20)
    if how == "requeued":
        cluster.run("scontrol", "requeue", cluster.jobs()[0][0])
        cluster.wait_until_empty()
    else:
        for line in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if b"submitit.core._submit" in (said := line.read_bytes()) and bytes(tmp_path) in said:
                    os.kill(int(line.parent.name), signal.SIGKILL)
    said, _ = waiting.communicate(timeout=600)
    if how == "requeued":
        assert "1 of 1 runs done" in said, said
        assert waiting.returncode == 0
        assert_same_run(straight, only_folder(tmp_path))
    else:
        assert "0 of 1 runs done" in said, said
        assert waiting.returncode == 1
        assert "is gone from the queue without an end" in said
        assert "Traceback" not in said
