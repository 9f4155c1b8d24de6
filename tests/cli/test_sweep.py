"""A sweep skips finished runs, goes on past failing ones, ends with a table and an honest exit code."""

import pytest

from tests.cli.quire import TINY, call, quire


def folders(runs):
    return sorted(path.name for path in (runs / "uosr").iterdir())


def test_a_sweep_with_failing_runs(tmp_path):
    # No check can foresee that a loss is not finite.
    words = ("-m", *TINY, f"runs={tmp_path}", "seed=0,1", "model.optimizer.lr=1e-3,1e30")
    first = quire(*words)
    assert first.returncode == 1, first.stdout + first.stderr
    assert "2 of 4 runs done" in first.stdout
    assert "the loss is nan at step" in first.stdout
    assert len(folders(tmp_path)) == 4
    second = quire(*words)
    assert second.returncode == 1
    assert second.stdout.count("finished before, not repeated") == 2


@pytest.mark.full
def test_a_clean_sweep_in_other_processes(tmp_path):
    words = (
        "-m",
        *TINY,
        "hardware=auto",
        f"runs={tmp_path}",
        "seed=0,1",
        "hydra/launcher=joblib",
        "data.num_workers=1",
    )
    # GPUs that are only named: each run takes one, and finds none.
    done = quire(*words, CUDA_VISIBLE_DEVICES="0,1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 runs done" in done.stdout
    assert len(folders(tmp_path)) == 2
    assert list(tmp_path.glob(".sweeps/*/.gpu-*"))


def test_a_sweep_with_a_typo_runs_nothing(tmp_path):
    done = call("-m", *TINY, f"runs={tmp_path}", "seed=0,x")
    assert done.returncode == 2
    assert "seed: is 'x'" in done.stderr
    assert not list(tmp_path.iterdir())
