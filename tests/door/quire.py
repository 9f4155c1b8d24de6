"""Calls of the door in processes of their own."""

import atexit
import json
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from multiprocessing import forkserver
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
TINY = ("experiment=uosr", "debug=tiny")
_CLEAN = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "QUIRE_"))}
ENVIRONMENT = _CLEAN | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def command(*words):
    return [sys.executable, str(ROOT / "run.py"), *map(str, words)]


# Importing these takes five times as long as a tiny run, so they are imported once, in a process that only forks.
_HEAVY = ["torch", "pytorch_lightning", "hydra", "timm", "peft", "open_clip", "diffusers", "torchmetrics", "sklearn"]
_HEAVY += ["scipy.stats", "matplotlib.figure", "torchvision", "rich", "plotly"]
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(_HEAVY)


def quire(*words, **environment):
    """Run the door to its end; returns the finished process, with what it printed."""
    environment = ENVIRONMENT | {key: str(value) for key, value in environment.items()}
    if {"hydra/launcher=joblib", "logger=wandb"} & set(words):
        # Both start processes of their own, and end with them, in ways that a forked process does not know.
        return subprocess.run(
            command(*words), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
    with tempfile.TemporaryDirectory() as folder:
        printed = [Path(folder, name) for name in ("out", "err")]
        process = _FORKS.Process(target=_run, args=(command(*words)[1:], environment, printed))
        _start_server()
        process.start()
        process.join(300)
        if process.is_alive():
            process.kill()
            raise subprocess.TimeoutExpired(command(*words), 300)
        out, err = (path.read_text() for path in printed)
    return subprocess.CompletedProcess(command(*words), process.exitcode, out, err)


def _start_server():
    # The number of threads is read when torch is imported.
    kept = dict(os.environ)
    os.environ.update(ENVIRONMENT)
    forkserver.ensure_running()
    os.environ.clear()
    os.environ.update(kept)


def _run(arguments, environment, printed):
    for number, path in enumerate(printed, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    sys.argv = arguments
    sys.path.insert(0, str(ROOT))
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    finally:
        # A forked process ends without them.
        atexit._run_exitfuncs()


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


def kill_when_rows(words, experiment, runs, moments):
    """Start a run and kill it when metrics.jsonl has so many rows, once for each of `moments`."""

    def rows():
        found = list(Path(runs).glob(f"{experiment}/*/metrics.jsonl"))
        return found[0].read_text().count("\n") if found else 0

    for moment in moments:
        process = start(*words, f"runs={runs}")
        wait_for(lambda moment=moment: rows() >= moment, process)
        kill(process)
