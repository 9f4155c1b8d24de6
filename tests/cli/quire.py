"""Calls of the command line in processes of their own, and in this one."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from hydra.core.global_hydra import GlobalHydra

from harness.cli import main, task
from harness.sweeps import grid
from tests.cli.forks import ENVIRONMENT, ROOT, Forked

TINY = ("experiment=uosr", "debug=tiny")


def command(*words):
    return [sys.executable, str(ROOT / "run.py"), *map(str, words)]


def _with(environment):
    return ENVIRONMENT | {key: str(value) for key, value in environment.items()}


def quire(*words, **environment):
    """Run the command line to its end; returns the finished process, with what it printed."""
    return python(*command(*words)[1:], **environment)


def python(*arguments, **environment):
    """Run a script, or `-m` and a module, to its end; returns the finished process, with what it printed."""
    arguments = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as folder:
        printed = [Path(folder, name) for name in ("out", "err")]
        process = Forked(arguments, _with(environment), printed)
        try:
            process.wait(900)
        finally:
            if process.poll() is None:
                kill(process)
        out, err = (path.read_text() for path in printed)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def new_python(*words, **environment):
    """Run the command line as a user does, in a new Python."""
    given = _with(environment)
    return subprocess.run(
        command(*words), cwd=ROOT, env=given, capture_output=True, text=True, timeout=900, check=False
    )


class _BeginsError(BaseException):
    """Says that the command line was accepted and a run would begin."""


def _begin(*_):
    raise _BeginsError


def call(*words):
    """Call the command line in this process; only where it would begin a run, a forked one does all of it."""
    printed = io.StringIO(), io.StringIO()
    try:
        with _as_it_was(), redirect_stdout(printed[0]), redirect_stderr(printed[1]):
            code = main.main([str(word) for word in words])
    except _BeginsError:
        return quire(*words)
    except SystemExit as ended:
        code = ended.code
    out, err = (text.getvalue() for text in printed)
    return subprocess.CompletedProcess(command(*words), code, out, err)


@contextmanager
def _as_it_was():
    """Restore what the command line changes in its process."""
    environment, arguments, folder = dict(os.environ), sys.argv, Path.cwd()
    begin = task.call_hydra, grid.launch
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)}
    try:
        with warnings.catch_warnings():
            os.environ.clear()
            os.environ.update(ENVIRONMENT)
            os.chdir(ROOT)
            main.call_hydra = task.call_hydra = grid.launch = _begin
            yield
    finally:
        main.call_hydra, grid.launch = begin
        task.call_hydra = begin[0]
        os.chdir(folder)
        sys.argv = arguments
        os.environ.clear()
        os.environ.update(environment)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        GlobalHydra.instance().clear()


STARTED = []


def start(*words):
    """Start the command line in the background, in a process group of its own."""
    process = Forked(command(*words)[1:], ENVIRONMENT, [os.devnull, os.devnull])
    STARTED.append(process)
    return process


def kill_all():
    """Kill what a failed test has left running."""
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            kill(process)


def wait_for(condition, process, seconds=600.0):
    """Poll closely until `condition` holds; the process must not end before."""
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run ended before the moment waited for"
        assert time.monotonic() < until, "the moment waited for never came"
        time.sleep(0.0005)


def kill(process):
    """Kill the process and all that it started, at once."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    # For the moment before it has a group of its own.
    process.kill()
    process.wait()


@dataclass
class SharedRun:
    """A run that several tests read and none changes: its folder of runs, and what it printed."""

    runs: Path
    stdout: str
    stderr: str

    def folder(self, experiment="uosr"):
        """Return the single run folder of an experiment."""
        return only_folder(self.runs, experiment)

    def copy(self, runs, *experiments):
        """Copy finished runs, by default all, into a test's own folder of runs."""
        for name in experiments or [path.name for path in self.runs.iterdir()]:
            shutil.copytree(self.runs / name, Path(runs) / name, dirs_exist_ok=True)


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
