"""The runs of a sweep reach the launcher in order and with their numbers in the whole grid, except finished ones."""

import os

import pytest
from hydra.core.hydra_config import HydraConfig

from common.errors import UserError
from common.files import read_json
from harness.config.compose import plain
from harness.config.job import Outcome
from harness.config.load import load
from harness.sweeps import grid, slurm_array
from harness.sweeps.outcomes import number_of, numbered

WORDS = ["experiment=uosr", "debug=tiny", "seed=0,1,2", "model.optimizer.lr=1e-3,1e-2"]


@pytest.mark.parametrize("more", [[], ["hydra.sweeper.max_batch_size=2"]])
def test_finished_runs_are_noted_and_the_others_launched(more, tmp_path, monkeypatch):
    words, launched = [*WORDS, *more, f"runs={tmp_path}"], []

    def finished(config, experiment, own, group):
        is_done = config["seed"] == 1 and config["model"]["optimizer"]["lr"] == 0.01
        return Outcome("done", "there", overrides=own) if is_done else None

    def task(config):
        values, number = plain(config), int(os.environ[slurm_array.RUN])
        launched.append(
            (number, values["seed"], values["model"]["optimizer"]["lr"], list(HydraConfig.get().overrides.task))
        )

    monkeypatch.setattr(grid, "finished", finished)
    runs = grid.cells(words, load(["experiment=uosr", "debug=tiny", *more]))
    grid.launch(runs, words, task, tmp_path)
    assert [own[:3] for own in launched] == [(0, 0, 1e-3), (1, 0, 1e-2), (2, 1, 1e-3), (4, 2, 1e-3), (5, 2, 1e-2)]
    # What a run calls its own overrides, and so its folder, has no number in it.
    assert all(own[3] == runs[own[0]][0] for own in launched)
    assert [path.name for path in tmp_path.glob("*.json")] == ["3.json"]
    assert read_json(tmp_path / "3.json")["overrides"] == runs[3][0]
    assert slurm_array.RUN not in os.environ


def test_an_interval_is_for_sweepers_that_search():
    words = ["experiment=uosr", "model.optimizer.lr=interval(0,1)"]
    with pytest.raises(UserError, match="does not support"):
        grid.cells(words, load(["experiment=uosr"]))


def test_a_combination_that_cannot_be_composed_is_told_before_any_run():
    words = ["experiment=uosr", "+model.optimizer.more=1,2", "++model.optimizer.more=3", "seed@a=1,2"]
    with pytest.raises(UserError, match="config group"):
        grid.cells(words, load(["experiment=uosr"]))


def test_the_number_of_a_run():
    assert number_of(numbered(["seed=1"], 7), 3) == (7, ["seed=1"])
    assert number_of(["seed=1"], 3) == (3, ["seed=1"])
