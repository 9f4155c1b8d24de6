"""One GPU for each process of a sweep, by names alone: none is needed."""

import fcntl
import multiprocessing
import os

import pytest

from harness.sweeps import gpus


def _take(folder, names, answers, leave):
    os.environ["CUDA_VISIBLE_DEVICES"] = names
    with gpus.one(folder, "gpu"):
        answers.put(os.environ["CUDA_VISIBLE_DEVICES"])
        leave.wait(300)


def test_each_run_has_its_own_until_it_ends(tmp_path):
    context = multiprocessing.get_context("spawn")
    answers, leave = context.Queue(), context.Event()
    begun = [context.Process(target=_take, args=(tmp_path, "0,GPU-7", answers, leave)) for _ in range(3)]
    for process in begun:
        process.start()
    assert {answers.get(timeout=300) for _ in range(2)} == {"0", "GPU-7"}
    assert answers.empty()
    leave.set()
    # Who waited has one that became free.
    assert answers.get(timeout=300) in {"0", "GPU-7"}
    for process in begun:
        process.join(300)


@pytest.fixture
def fresh(monkeypatch):
    monkeypatch.setattr(gpus, "_given", [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")


@pytest.mark.usefixtures("fresh")
def test_a_process_keeps_its_first_one(tmp_path):
    with gpus.one(tmp_path, "gpu"):
        assert gpus.visible() == ["3"]
    with (tmp_path / ".gpu-3").open("w") as other:
        # Free between two runs.
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with gpus.one(tmp_path, "gpu"):
        assert gpus.visible() == ["3"]


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(("names", "accelerator"), [("3", "gpu"), ("", "auto"), ("3,5", "cpu")])
def test_there_is_nothing_to_choose(tmp_path, monkeypatch, names, accelerator):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", names)
    with gpus.one(tmp_path, accelerator):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == names
    assert not list(tmp_path.iterdir())
