"""A process ends whole without the interpreter's teardown, and its threads are those of the config."""

import os
import subprocess
import sys

import pytest

from tests.cli.quire import ENVIRONMENT, ROOT, TINY, assert_same_run, only_folder, quire, read

# Buffers are what may be lost.
BUFFERED = {key: value for key, value in ENVIRONMENT.items() if key != "PYTHONUNBUFFERED"}
LEAVING = """
import atexit, sys, threading, time
from harness.core.process import leave

atexit.register(lambda: print("last words"))
threading.Thread(target=lambda: (time.sleep(0.2), print("the thread has ended"))).start()
print("buffered", end="")
sys.stderr.write("and this")
leave({code})
"""


@pytest.mark.parametrize("code", [0, 1, 143])
def test_buffers_threads_exit_functions_and_the_code_survive(code):
    command = [sys.executable, "-c", LEAVING.format(code=code)]
    done = subprocess.run(command, cwd=ROOT, env=BUFFERED, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stdout == "bufferedthe thread has ended\nlast words\n"
    assert done.stderr == "and this"


def test_output_that_nobody_reads_any_more_is_no_traceback(tmp_path):
    # The reader has gone before the buffer is flushed, which a pipe without readers refuses.
    script = "import pathlib, time\nfrom harness.core.process import leave\nprint('x')\n"
    script += f"gone = pathlib.Path('{tmp_path}/gone')"
    script += "\nwhile not gone.exists(): time.sleep(0.01)\nleave(0)"
    read, write = os.pipe()
    command = [sys.executable, "-c", script]
    process = subprocess.Popen(command, cwd=ROOT, env=BUFFERED, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    os.close(read)
    (tmp_path / "gone").touch()
    assert process.communicate(timeout=300)[1] == ""
    assert process.returncode == 1


@pytest.mark.full
def test_how_a_run_is_launched_changes_no_bit(tmp_path):
    direct = quire(*TINY, f"runs={tmp_path / 'direct'}", OMP_NUM_THREADS=3)
    assert direct.returncode == 0, direct.stderr
    words = ("-m", *TINY, "seed=0,1", "hydra/launcher=joblib", f"runs={tmp_path / 'joblib'}")
    assert quire(*words, OMP_NUM_THREADS=2).returncode == 0
    folder = only_folder(tmp_path / "direct")
    (launched,) = [path for path in (tmp_path / "joblib" / "uosr").iterdir() if path.name.endswith(folder.name[-8:])]
    assert_same_run(folder, launched)
    assert read(folder / "lock.json")["hardware"]["threads"] == read(launched / "lock.json")["hardware"]["threads"] == 1


@pytest.mark.full
def test_another_number_of_threads_is_another_run_on_every_rank(tmp_path):
    assert quire(*TINY, f"runs={tmp_path}", "mode=check").returncode == 0
    done = quire(*TINY, f"runs={tmp_path}", "hardware=ddp_cpu", "hardware.threads=2")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = only_folder(tmp_path)
    assert folder.name.startswith("debug-tiny_threads-2-")
    assert read(folder / "lock.json")["hardware"]["threads"] == 2


@pytest.mark.parametrize("count", ["0", "two", "null", "1.5"])
def test_threads_that_cannot_be_are_refused(count):
    done = quire(*TINY, f"hardware.threads={count}")
    assert done.returncode == 2
    assert "hardware.threads: is" in done.stderr
    assert "should be a whole number, at least 1" in done.stderr
