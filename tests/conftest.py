"""What all tests share: two tiers, files spread over processes longest first, runs made once, and what it all took."""

import gc
import hashlib
import json
import os
import shutil
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest
from filelock import FileLock
from xdist.scheduler import LoadScopeScheduling

from tests.cli import forks

# One thread for each of the processes that share the cores, before torch is imported: idle threads spin.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# Seconds of every test that takes more than one, renewed by --write-durations.
DURATIONS = Path(__file__).with_name("durations.json")
# Long files whose tests share no expensive fixture: each of their tests may go to any process.
ALONE = {f"tests/cli/{name}.py" for name in ("test_claim", "test_clip_fsar", "test_dvdp", "test_geod", "test_resume")}


def pytest_addoption(parser):
    parser.addoption("--write-durations", action="store_true", help=f"renew {DURATIONS.name}")


def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Costs(config), "costs")


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    # A quarter of the time of the imports would go into collecting garbage that is none.
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_unconfigure():
    # Libraries complain of objects that are never collected.
    gc.unfreeze()


def group_of(nodeid):
    """Return the tests that go to one process together: a file's, or one test."""
    file = nodeid.split("::")[0]
    return nodeid if file in ALONE else file


class LongestFirst(LoadScopeScheduling):
    """Gives every process that has nothing left the longest group of tests that no process has."""

    def __init__(self, config, log):
        super().__init__(config, log)
        self._seconds = json.loads(DURATIONS.read_text())

    def _split_scope(self, nodeid):
        return group_of(nodeid)

    def _length(self, group):
        return sum(self._seconds.get(test, 0) for test in self.workqueue[group])

    def _assign_work_unit(self, node):
        longest = max(self.workqueue, key=self._length)
        self.workqueue.move_to_end(longest, last=False)
        super()._assign_work_unit(node)


def pytest_xdist_make_scheduler(config, log):
    return LongestFirst(config, log)


def server_seconds():
    """Return what the server of forked processes and its ended children have computed so far."""
    if not (pid := forks.server_pid()):
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["server_seconds"] = server_seconds()


class Costs:
    """Tells how long the tests took, on how busy a machine."""

    def __init__(self, config):
        self.config, self.began, self.load = config, time.monotonic(), os.getloadavg()[0]
        self.servers, self.tests = 0.0, defaultdict(float)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node):
        self.servers += getattr(node, "workeroutput", {}).get("server_seconds", 0.0)

    def pytest_runtest_logreport(self, report):
        self.tests[report.nodeid] += report.duration

    def pytest_terminal_summary(self, terminalreporter):
        # The workers have ended; their servers end on their own.
        wall, computed = time.monotonic() - self.began, sum(os.times()[:4]) + self.servers + server_seconds()
        terminalreporter.section("cost")
        terminalreporter.line(
            f"{wall:.0f} s of wall time, {computed:.0f} s of processor time as far as known;"
            f" load {self.load:.1f} at the start, {os.getloadavg()[0]:.1f} at the end"
        )
        if self.config.option.write_durations:
            known = json.loads(DURATIONS.read_text()) if DURATIONS.exists() else {}
            known |= {test: round(seconds) for test, seconds in self.tests.items()}
            kept = {test: seconds for test, seconds in sorted(known.items()) if seconds > 1}
            DURATIONS.write_text(json.dumps(kept, indent=0) + "\n")


@pytest.fixture(autouse=True)
def _nothing_left_running():
    yield
    if quire := sys.modules.get("tests.cli.quire"):
        quire.kill_all()


@pytest.fixture(scope="session")
def shared_run(tmp_path_factory):
    """Return a function that runs a command line once for all tests and processes, for them to read what it leaves."""
    from tests.cli.quire import SharedRun, quire

    base = tmp_path_factory.getbasetemp()
    base = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    base.mkdir(exist_ok=True)

    def run(*words):
        name = hashlib.sha256("\n".join(map(str, words)).encode()).hexdigest()[:16]
        runs, ended = base / name, base / f"{name}.json"
        with FileLock(base / f"{name}.lock"):
            if not ended.exists():
                shutil.rmtree(runs, ignore_errors=True)
                done = quire(*words, f"runs={runs}")
                ended.write_text(json.dumps([done.returncode, done.stdout, done.stderr]))
        code, out, err = json.loads(ended.read_text())
        assert code == 0, out + err
        return SharedRun(runs, out, err)

    return run
