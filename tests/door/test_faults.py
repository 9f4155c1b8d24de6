"""Faults of a machine and of a run, each with its outcome; others are in test_resume.py and test_bad_input.py."""

import os
import subprocess
import time

import pytest

from tests.door.quire import ENVIRONMENT, ROOT, TINY, assert_same_run, checkpoint, command, only_folder, quire, read

# Time goes on in jumps, an hour back and forth.
CLOCK = """
import itertools, time
_real, _jumps = time.time, itertools.cycle([0, 3600, -3600, 86400])
time.time = lambda: _real() + next(_jumps)
"""
# The second of the processes breaks in its third batch.
RANK = """
import importlib.util, os, sys
from importlib.abc import MetaPathFinder

class Finder(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "harness.resume":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        own = spec.loader.exec_module

        def exec_module(module):
            own(module)
            def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
                if batch_idx == 2:
                    raise OverflowError("only this process breaks")
            module.PositionSeeds.on_train_batch_start = on_train_batch_start

        spec.loader.exec_module = exec_module
        return spec

if os.environ.get("SLURM_PROCID" if "SLURM_STEP_NUM_TASKS" in os.environ else "LOCAL_RANK") == "1":
    sys.meta_path.insert(0, Finder())
"""


def with_custom(folder, code, *words, before=(), **environment):
    """Run the door in a process that runs some code first."""
    (folder / "sitecustomize.py").write_text(code)
    given = ENVIRONMENT | environment | {"PYTHONPATH": str(folder)}
    line = [*before, *command(*words)]
    return subprocess.run(line, cwd=ROOT, env=given, capture_output=True, text=True, timeout=300, check=False)


def test_a_clock_that_jumps_changes_nothing(tmp_path):
    assert quire(*TINY, f"runs={tmp_path / 'straight'}").returncode == 0
    done = with_custom(tmp_path, CLOCK, *TINY, f"runs={tmp_path / 'jumping'}")
    assert done.returncode == 0, done.stdout + done.stderr
    straight, jumping = (only_folder(tmp_path / name) for name in ("straight", "jumping"))
    assert_same_run(straight, jumping)
    assert 0 < read(jumping / "result.json")["cost"]["seconds"] < 600


def test_one_process_that_breaks_ends_all_with_its_own_words(tmp_path):
    began = time.monotonic()
    done = with_custom(tmp_path, RANK, *TINY, "hardware=ddp_cpu", f"runs={tmp_path / 'runs'}")
    assert done.returncode == 1
    assert "only this process breaks" in done.stdout + done.stderr
    folder = only_folder(tmp_path / "runs")
    assert read(folder / "status.json")["status"] == "failed"
    assert "OverflowError: only this process breaks" in (folder / "error-1.txt").read_text()
    assert time.monotonic() - began < 120


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    words = (*TINY, "model.optimizer.lr=1e30", f"runs={tmp_path}")
    done = quire(*words)
    assert done.returncode == 1
    folder = only_folder(tmp_path)
    assert "the loss is" in read(folder / "status.json")["word"]
    assert "samples [" in read(folder / "status.json")["word"]
    kept = checkpoint(folder, "not-finite-0.pt")
    assert {"state_dict", "batch", "step"} == set(kept)
    # Told to, the same run goes on to its end, and only then has weights that nothing can be read from.
    done = quire(*words, "callbacks.finite.go_on=true")
    assert "epoch 2/2" in done.stdout
    assert "the loss is" not in done.stdout + done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    tmp_path.chmod(0o500)
    done = quire(*TINY, f"runs={tmp_path}")
    assert done.returncode == 2
    assert "cannot write there" in done.stderr
