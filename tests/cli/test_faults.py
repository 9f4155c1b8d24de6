"""Faults of a machine and of a run, each with its outcome; others are in test_resume.py and test_bad_input.py."""

import subprocess

import pytest

from harness.core.run_folder import is_complete_checkpoint
from tests.cli.forks import ENVIRONMENT, ROOT
from tests.cli.quire import TINY, assert_same_run, call, checkpoint, command, only_folder, quire, read
from tests.datamodules.miniature_generative import WRITERS
from tests.tiers import full

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
        if name != "harness.training.resume":
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
    return subprocess.run(line, cwd=ROOT, env=given, capture_output=True, text=True, timeout=900, check=False)


@pytest.mark.full
def test_a_clock_that_jumps_changes_nothing(tmp_path, shared_run):
    done = with_custom(tmp_path, CLOCK, *TINY, f"runs={tmp_path / 'jumping'}")
    assert done.returncode == 0, done.stdout + done.stderr
    straight, jumping = shared_run(*TINY).folder(), only_folder(tmp_path / "jumping")
    assert_same_run(straight, jumping)
    # No jump is counted as time of training.
    seconds = [read(folder / "result.json")["cost"]["seconds"] for folder in (straight, jumping)]
    assert min(seconds) > 0
    assert round((seconds[1] - seconds[0]) / 3600) == 0


@pytest.mark.full
def test_one_process_that_breaks_ends_all_with_its_own_words(tmp_path):
    done = with_custom(tmp_path, RANK, *TINY, "hardware=ddp_cpu", f"runs={tmp_path / 'runs'}")
    assert done.returncode == 1
    assert "only this process breaks" in done.stdout + done.stderr
    folder = only_folder(tmp_path / "runs")
    assert read(folder / "status.json")["status"] == "failed"
    assert "OverflowError: only this process breaks" in (folder / "error-1.txt").read_text()


@pytest.fixture
def disk(tmp_path):
    """Return a folder with a disk of its own, and what mounts it again with other options."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(*options):
        return subprocess.run(["mount", "-o", ",".join(options), "tmpfs", str(place)], check=False).returncode

    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(place)], capture_output=True, check=False).returncode:
        pytest.skip("no right to mount here")
    yield place, lambda *options: mount("remount", *options)
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.full
def test_a_disk_that_fills_up_while_a_checkpoint_is_written(disk, shared_run):
    place, remount = disk
    words = (*TINY, "callbacks.resume.every_seconds=0")
    straight = shared_run(*words).folder()
    # Two resume points and a half.
    assert remount(f"size={5 * (straight / 'checkpoints' / 'last.ckpt').stat().st_size // 2}") == 0
    done = quire(*words, f"runs={place}")
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert "cannot write there (No space left on device)" in line
    folder = only_folder(place)
    kept = list((folder / "checkpoints").glob("*"))
    assert len(kept) == 2
    assert all(is_complete_checkpoint(path) for path in kept)
    assert remount("size=1g") == 0
    again = quire(*words, f"runs={place}")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "goes on from its last resume point" in again.stdout
    assert_same_run(straight, folder)


@pytest.mark.parametrize("data", ["lsun_church", *full("picture_shards")])
def test_data_on_a_read_only_disk(data, disk, tmp_path):
    place, remount = disk
    root = WRITERS[data](place)
    assert remount("ro") == 0
    small = ("debug=tiny", "data.image_size=32", "data.val_size=4", "data.batch_size=8", "data.num_workers=1")
    network = ("model.network.channels=[32,32]", "model.network.layers=1", "model.network.norm_num_groups=8")
    test = ("model.evaluation.samples=4", "model.evaluation.features=null")
    words = ("experiment=dvdp_ddpm", f"data={data}", f"data.root={root}", *small, *network, *test)
    done = quire(*words, f"runs={tmp_path / 'runs'}")
    assert done.returncode == 0, done.stdout + done.stderr


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
    done = quire(*words, "callbacks.finite.allow_nonfinite=true")
    assert done.returncode == 1
    assert "epoch 2/2" in done.stdout
    assert "the loss is" not in done.stdout + done.stderr


def test_a_read_only_disk_for_runs_is_told(disk):
    place, remount = disk
    assert remount("ro") == 0
    done = call(*TINY, f"runs={place}")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "cannot write there (Read-only file system)" in line
