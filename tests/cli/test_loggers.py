"""W&B mirrors the run and can never stop it; metrics.jsonl is always there."""

import pytest

from tests.cli.quire import TINY, only_folder, quire, read


def test_wandb_offline_by_itself(tmp_path):
    done = quire(*TINY, f"runs={tmp_path}", "logger=wandb")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    folder = only_folder(tmp_path)
    (run,) = (folder / "wandb").glob("offline-run-*")
    assert run.name.endswith(read(folder / "lock.json")["identity"])
    (file,) = run.glob("*.wandb")
    assert file.stat().st_size > 1000
    assert list((run / "files" / "media").rglob("*.png"))
    assert list((run / "files" / "media").rglob("*.table.json"))
    assert (folder / "metrics.jsonl").exists()


@pytest.mark.full
@pytest.mark.parametrize("trouble", [{"WANDB_DIR": "/proc/nowhere"}, {"WANDB_MODE": "nonsense"}])
def test_no_failure_of_wandb_stops_a_run(trouble, tmp_path):
    done = quire(*TINY, f"runs={tmp_path}", "logger=wandb", **trouble)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    folder = only_folder(tmp_path)
    assert read(folder / "status.json")["status"] == "done"
    assert (folder / "metrics.jsonl").read_text().count("\n") > 6


def test_tensorboard(tmp_path):
    assert quire(*TINY, f"runs={tmp_path}", "logger=tensorboard").returncode == 0
    assert list(only_folder(tmp_path).rglob("events.out.tfevents.*"))
