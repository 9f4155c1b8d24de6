"""kill -9 at any moment and the same command again: the run ends as if it had never been killed."""

import signal
from contextlib import suppress

import pytest

from tests.cli.quire import TINY, assert_same_run, checkpoint, kill, only_folder, quire, read, start, wait_for

# A resume point before every batch, so that kills fall into the middle of all that a run does.
WORDS = (*TINY, "trainer.max_epochs=3", "trainer.limit_train_batches=6", "callbacks.resume.every_seconds=0")


@pytest.fixture(scope="module")
def straight(shared_run):
    return shared_run(*WORDS).folder()


def rows(runs):
    found = list(runs.glob("*/*/metrics.jsonl"))
    return found[0].read_text().count("\n") if found else 0


def half_written(runs):
    return list(runs.glob("*/*/checkpoints/.last.ckpt.*"))


@pytest.mark.parametrize("moments", [(9,), pytest.param((1, 9, 14, 22), marks=pytest.mark.full)])
def test_killed_while_training_again_and_again(moments, straight, tmp_path):
    for moment in moments:
        process = start(*WORDS, f"runs={tmp_path}")
        wait_for(lambda moment=moment: rows(tmp_path) >= moment, process)
        kill(process)
        assert read(only_folder(tmp_path) / "status.json")["status"] == "running"
    assert quire(*WORDS, f"runs={tmp_path}").returncode == 0
    assert_same_run(straight, only_folder(tmp_path))


@pytest.mark.full
def test_killed_while_a_checkpoint_is_being_written(straight, tmp_path):
    for moment in (4, 12):
        process = start(*WORDS, f"runs={tmp_path}")
        wait_for(lambda moment=moment: rows(tmp_path) >= moment and half_written(tmp_path), process)
        kill(process)
    assert quire(*WORDS, f"runs={tmp_path}").returncode == 0
    assert not half_written(tmp_path)
    assert_same_run(straight, only_folder(tmp_path))


@pytest.mark.full
def test_killed_while_testing(straight, tmp_path):
    process = start(*WORDS, f"runs={tmp_path}")
    wait_for(lambda: rows(tmp_path) and checkpoint_is_last(tmp_path), process)
    kill(process)
    again = quire(*WORDS, f"runs={tmp_path}")
    assert again.returncode == 0
    assert_same_run(straight, only_folder(tmp_path))


def checkpoint_is_last(runs):
    # While a new one takes its place there is none for a moment.
    with suppress(FileNotFoundError):
        return checkpoint(only_folder(runs))["global_step"] == 18
    return False


@pytest.mark.full
def test_a_truncated_last_checkpoint_falls_back_to_the_one_before(straight, tmp_path):
    process = start(*WORDS, f"runs={tmp_path}")
    wait_for(lambda: rows(tmp_path) >= 14, process)
    kill(process)
    last = only_folder(tmp_path) / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    assert quire(*WORDS, f"runs={tmp_path}").returncode == 0
    assert_same_run(straight, only_folder(tmp_path))


def test_asked_to_stop_it_saves_and_says_so(straight, tmp_path):
    process = start(*WORDS, f"runs={tmp_path}")
    wait_for(lambda: rows(tmp_path) >= 6, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(600) == 143
    assert read(only_folder(tmp_path) / "status.json")["status"] == "preempted"
    assert quire(*WORDS, f"runs={tmp_path}").returncode == 0
    assert_same_run(straight, only_folder(tmp_path))


def test_two_processes_on_one_run_the_second_is_refused(tmp_path):
    first = start(*WORDS, f"runs={tmp_path}")
    wait_for(lambda: rows(tmp_path) >= 1, first)
    first.send_signal(signal.SIGSTOP)
    second = quire(*WORDS, f"runs={tmp_path}")
    kill(first)
    assert second.returncode == 2
    assert f"process {first.pid}" in second.stderr
    assert "Traceback" not in second.stderr
