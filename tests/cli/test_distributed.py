"""Two gloo processes: one folder, and the same run as one process with the same global batch."""

import json
import math
import subprocess

import pytest

from tests.cli.forks import ENVIRONMENT
from tests.cli.quire import TINY, checkpoint, command, kill, only_folder, quire, read, start, wait_for

# In float64, so that what is compared is the arithmetic, not how Adam blows up float32 rounding.
WORDS = (*TINY, "model.objective=oe", "hardware.precision=64-true")


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def both(shared_run):
    runs = [shared_run(*WORDS, f"hardware={hardware}") for hardware in ("cpu", "ddp_cpu")]
    assert all("terminate called" not in run.stderr for run in runs)
    return [run.folder() for run in runs]


def test_one_folder_of_the_same_name(both):
    one, two = both
    assert one.name == two.name


@pytest.mark.full
def test_every_process_runs_the_code_of_the_door(tmp_path):
    # Not that of the folder in which the command is typed.
    (tmp_path / "harness").mkdir()
    for name in ("__init__", "job"):
        (tmp_path / "harness" / f"{name}.py").write_text("raise SystemExit('the code of the current folder ran')\n")
    words = command(*TINY, "hardware=ddp_cpu", "trainer.max_epochs=1", "runs=runs")
    done = subprocess.run(
        words, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert read(only_folder(tmp_path / "runs") / "status.json")["status"] == "done"


def test_the_same_metrics_to_1e_5(both):
    one, two = map(rows, both)
    assert len(one) == len(two) > 10
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            assert math.isclose(a[key], b[key], rel_tol=1e-5, abs_tol=1e-5), (key, a, b)


def test_the_same_running_statistics(both):
    one, two = (checkpoint(folder)["state_dict"] for folder in both)
    keys = [key for key in one if "running_" in key]
    assert keys
    for key in keys:
        assert (one[key] - two[key]).abs().max() < 1e-4, key


@pytest.mark.full
def test_a_sweep_of_two_process_runs(tmp_path):
    done = quire("-m", *WORDS, "hardware=ddp_cpu", "seed=0,1", f"runs={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 runs done" in done.stdout
    assert len(list((tmp_path / "uosr").iterdir())) == 2


@pytest.mark.full
def test_killed_on_two_processes_and_resumed_on_one(both, tmp_path):
    words = (*WORDS, f"runs={tmp_path}", "callbacks.resume.every_seconds=0", "trainer.limit_train_batches=10")
    place = tmp_path / "uosr"
    process = start(*words, "hardware=ddp_cpu")
    wait_for(lambda: list(place.glob("*/checkpoints/last.ckpt")), process)
    kill(process)
    done = quire(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "goes on from its last resume point" in done.stdout
    straight = tmp_path / "straight"
    assert quire(*words, f"runs={straight}").returncode == 0
    a, b = (read(folder / "result.json")["metrics"] for folder in (only_folder(tmp_path), only_folder(straight)))
    assert a.keys() == b.keys()
    for key in a:
        assert math.isclose(a[key], b[key], rel_tol=1e-4, abs_tol=1e-4), key


def test_a_rank_that_fails_ends_the_run_with_its_own_words(tmp_path):
    done = quire(
        *WORDS, "hardware=ddp_cpu", "model.optimizer.name=sgd", "model.optimizer.momentum=-1", f"runs={tmp_path}"
    )
    assert done.returncode == 1
    assert "Invalid momentum value" in done.stdout + done.stderr
    assert read(only_folder(tmp_path) / "status.json")["status"] == "failed"
