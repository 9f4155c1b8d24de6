"""Calls of the door in real subprocesses."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
TINY = ("experiment=uosr", "debug=tiny")
_CLEAN = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "QUIRE_"))}
ENVIRONMENT = _CLEAN | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def command(*words):
    return [sys.executable, str(ROOT / "run.py"), *map(str, words)]


def quire(*words, **environment):
    """Run the door to its end; returns the finished process, with what it printed."""
    environment = ENVIRONMENT | {key: str(value) for key, value in environment.items()}
    return subprocess.run(command(*words), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def start(*words):
    """Start the door in the background, in a process group of its own."""
    pipe = subprocess.DEVNULL
    return subprocess.Popen(
        command(*words), cwd=ROOT, env=ENVIRONMENT, stdout=pipe, stderr=pipe, start_new_session=True
    )


def wait_for(condition, process, seconds=120.0):
    """Poll closely until `condition` holds; the process must not end before."""
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run ended before the moment waited for"
        assert time.monotonic() < until, "the moment waited for never came"
        time.sleep(0.0005)


def kill(process):
    """Kill the process and all that it started, at once."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def only_folder(runs, experiment="uosr"):
    """Return the single run folder of an experiment."""
    found = [path for path in (Path(runs) / experiment).iterdir() if path.is_dir()]
    assert len(found) == 1, found
    return found[0]


def read(path):
    return json.loads(Path(path).read_text())


def checkpoint(folder, name="last.ckpt"):
    return torch.load(Path(folder) / "checkpoints" / name, map_location="cpu", weights_only=True)


def equal(first, second):
    """Return whether two nests of plain values and tensors are the same, bit for bit."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    return first == second


def assert_same_run(first, second):
    """Assert that two run folders hold bit-identical weights, optimizers, rows and metrics."""
    for name in ("last.ckpt", "best.ckpt"):
        a, b = checkpoint(first, name), checkpoint(second, name)
        for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch"):
            assert equal(a[key], b[key]), (name, key)
    assert (first / "metrics.jsonl").read_text() == (second / "metrics.jsonl").read_text()
    assert read(first / "result.json")["metrics"] == read(second / "result.json")["metrics"]
