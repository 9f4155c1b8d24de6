"""Processes forked from one warm server: importing torch and the rest takes many times as long as a tiny run.

A forked process is a real one, with a process group and an exit code of its own; `kill -9` ends it like any other.
"""

import atexit
import gc
import multiprocessing
import os
import runpy
import select
import signal
import subprocess
import sys
import threading
import warnings
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing import process as processes
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_CLEAN = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "QUIRE_"))}
ENVIRONMENT = _CLEAN | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.cli.preload"])


def start_server():
    """Start this process's server, unless it runs."""
    # The number of threads is read when torch is imported.
    before = dict(os.environ)
    os.environ.update(ENVIRONMENT, PYTHONPATH=str(ROOT))
    forkserver._forkserver.ensure_running()
    os.environ.clear()
    os.environ.update(before)


def server_pid():
    """Return the process of this process's server, if one was needed."""
    return forkserver._forkserver._forkserver_pid


class Forked:
    """A forked `python ARGUMENTS`, with what subprocess.Popen offers.

    Args:
        arguments: a script and its arguments, or `-m`, a module and its arguments.
        environment: all of the process's environment variables.
        streams: the files that standard output and error are appended to.
        directory: where the process starts.
        group: the process group to join; 0 makes a new one.
        dies_with: a process whose end kills this one.
    """

    def __init__(self, arguments, environment, streams, directory=ROOT, group=0, dies_with=None):
        self.args = [sys.executable, *arguments]
        self.returncode = None
        given = (list(arguments), dict(environment), [str(path) for path in streams], str(directory), group, dies_with)
        self._process = _SERVER.Process(target=_child, args=given)
        start_server()
        self._process.start()
        # As with subprocess, whoever ends first does not wait for the other.
        processes._children.discard(self._process)
        self.pid = self._process.pid

    def poll(self):
        """Return the exit code, or None while the process lives."""
        self.returncode = self._process.exitcode
        return self.returncode

    def wait(self, timeout=None):
        """Return the exit code once the process has ended."""
        self._process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def send_signal(self, number):
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self):
        """Ask the process to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self):
        """End the process."""
        self.send_signal(signal.SIGKILL)


class _Popen(subprocess.Popen):
    """Forks the ranks of a run on several processes, too; every other command is a true subprocess."""

    def __new__(cls, args, *_, **options):
        if not isinstance(args, list) or args[:3] != [sys.executable, "-m", "harness.run.worker"]:
            return super().__new__(cls)
        streams = [f"/proc/{os.getpid()}/fd/{number}" for number in (1, 2)]
        directory = options.get("cwd") or Path.cwd()
        parent = os.getpid() if options.get("preexec_fn") else None
        return Forked(args[1:], options.get("env") or os.environ, streams, directory, os.getpgrp(), parent)


def _die_with(pid):
    """Kill this process when another one ends; a forked process's parent is the server, whatever asked for it."""

    def watch():
        with suppress(ProcessLookupError):
            select.select([os.pidfd_open(pid)], [], [])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _child(arguments, environment, streams, directory, group, dies_with):
    os.setpgid(0, group)
    for number, path in enumerate(streams, 1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    if dies_with:
        _die_with(dies_with)
    os.environ.clear()
    os.environ.update(environment)
    # The server has imported what a new Python would not have.
    warnings.filterwarnings("ignore", message=".* found in sys.modules after import of package")
    for option in filter(None, environment.get("PYTHONWARNINGS", "").split(",")):
        warnings._setoption(option)
    gc.enable()
    os.chdir(directory)
    sys.path.insert(0, str(ROOT))
    # In a child, Python would start another server instead of asking the one that it comes from.
    forkserver._forkserver.ensure_running = lambda: None
    subprocess.Popen = _Popen
    try:
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            runpy.run_path(arguments[0], run_name="__main__")
    finally:
        # A forked process ends without them.
        atexit._run_exitfuncs()
