"""The runs of a sweep reach the launcher in order and with their numbers in the whole grid, except finished ones."""

import os

import pytest
from hydra.core.hydra_config import HydraConfig

from harness import detached, multirun
from harness.compose import compose_words, plain
from harness.errors import BadInputError
from harness.folder import read_json
from harness.job import Outcome
from harness.sweep import number_of, numbered

WORDS = ["experiment=uosr", "debug=tiny", "seed=0,1,2", "model.optimizer.lr=1e-3,1e-2"]


@pytest.mark.parametrize("more", [[], ["hydra.sweeper.max_batch_size=2"]])
def test_finished_runs_are_noted_and_the_others_launched(more, tmp_path, monkeypatch):
    words, launched = [*WORDS, *more, f"runs={tmp_path}"], []

    def finished(config, experiment, own, group):
        is_done = config["seed"] == 1 and config["model"]["optimizer"]["lr"] == 0.01
        return Outcome("done", "there", words=own) if is_done else None

    def task(config):
        values, number = plain(config), int(os.environ[detached.RUN])
        launched.append(
            (number, values["seed"], values["model"]["optimizer"]["lr"], list(HydraConfig.get().overrides.task))
        )

    monkeypatch.setattr(multirun, "finished", finished)
    runs = multirun.cells(words, compose_words(["experiment=uosr", "debug=tiny", *more]))
    multirun.launch(runs, words, task, tmp_path)
    assert [own[:3] for own in launched] == [(0, 0, 1e-3), (1, 0, 1e-2), (2, 1, 1e-3), (4, 2, 1e-3), (5, 2, 1e-2)]
    # What a run calls its own overrides, and so its folder, has no number in it.
    assert all(own[3] == runs[own[0]][0] for own in launched)
    assert [path.name for path in tmp_path.glob("*.json")] == ["3.json"]
    assert read_json(tmp_path / "3.json")["words"] == runs[3][0]
    assert detached.RUN not in os.environ


def test_an_interval_is_for_sweepers_that_search():
    words = ["experiment=uosr", "model.optimizer.lr=interval(0,1)"]
    with pytest.raises(BadInputError, match="does not support"):
        multirun.cells(words, compose_words(["experiment=uosr"]))


def test_a_combination_that_cannot_be_composed_is_told_before_any_run():
    words = ["experiment=uosr", "+model.optimizer.more=1,2", "++model.optimizer.more=3", "seed@a=1,2"]
    with pytest.raises(BadInputError, match="config group"):
        multirun.cells(words, compose_words(["experiment=uosr"]))


def test_the_number_of_a_run():
    assert number_of(numbered(["seed=1"], 7), 3) == (7, ["seed=1"])
    assert number_of(["seed=1"], 3) == (3, ["seed=1"])
