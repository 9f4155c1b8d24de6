"""One GPU for each process of a sweep, by names alone: none is needed."""

import multiprocessing
import os

from harness import devices


def _take(folder, names, answers, leave):
    os.environ["CUDA_VISIBLE_DEVICES"] = names
    answers.put((devices.take_one(folder), devices.take_one(folder), os.environ["CUDA_VISIBLE_DEVICES"]))
    leave.wait(60)


def test_each_process_has_its_own_until_it_ends(tmp_path):
    context = multiprocessing.get_context("spawn")
    answers, leave = context.Queue(), context.Event()
    begun = [context.Process(target=_take, args=(tmp_path, "0,GPU-7", answers, leave)) for _ in range(3)]
    for process in begun:
        process.start()
    first = [answers.get(timeout=60) for _ in range(2)]
    assert {name for name, _, _ in first} == {"0", "GPU-7"}
    # A second run of the same process keeps the first one's.
    assert all(again is None and seen == name for name, again, seen in first)
    assert answers.empty()
    leave.set()
    # Who waited has the one that became free.
    assert answers.get(timeout=60)[0] in {"0", "GPU-7"}
    for process in begun:
        process.join(60)


def test_there_is_nothing_to_choose_with_one(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert devices.take_one(tmp_path) is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.take_one(tmp_path) is None
