"""A search by optuna in place of a grid, and a stored study that goes on."""

import sqlite3

import pytest

from tests.cli.quire import TINY, call, quire

WORDS = (
    "-m",
    *TINY,
    "hydra/sweeper=optuna",
    "model.optimizer.lr=tag(log,interval(1e-3,1e-1))",
    "hydra.sweeper.n_trials=2",
)


def trials(path):
    with sqlite3.connect(path) as base:
        return base.execute("select study_id, state from trials").fetchall()


@pytest.mark.full
def test_a_stored_study_goes_on(tmp_path):
    words = (*WORDS, f"hydra.sweeper.storage=sqlite:///{tmp_path / 'study.db'}", f"runs={tmp_path / 'runs'}")
    # The same search, whatever launches it.
    for count, launched in ((2, ()), (4, ("hydra/launcher=joblib", "hydra.launcher.n_jobs=1"))):
        done = quire(*words, *launched)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "2 of 2 runs done" in done.stdout
        found = trials(tmp_path / "study.db")
        assert found == [(1, "COMPLETE")] * count
    assert len(list((tmp_path / "runs" / "uosr").iterdir())) == 4
    with sqlite3.connect(tmp_path / "study.db") as base:
        ((direction,),) = base.execute("select direction from study_directions").fetchall()
    # As the metric that chooses the weights gets better.
    assert direction == "MAXIMIZE"


def test_a_search_by_nothing_is_told(tmp_path):
    done = call(*WORDS, "callbacks.best.monitor=null", f"runs={tmp_path}")
    assert done.returncode == 2
    assert "set callbacks.best.monitor" in done.stderr
