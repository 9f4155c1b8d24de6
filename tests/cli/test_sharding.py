"""FSDP on two gloo processes: a run as that of one process, with whole checkpoints that go on on any hardware."""

import json

import pytest
import torch

from tests.cli.quire import TINY, assert_same_run, checkpoint, kill_when_rows, only_folder, quire, read

SHARDED = ("hardware=fsdp_bf16", "hardware.accelerator=cpu")
WORDS = (*TINY, "model.objective=oe", "trainer.limit_train_batches=10", "trainer.gradient_clip_val=0.5")
WORDS += ("hardware.precision=32-true",)


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def both(shared_run):
    return [shared_run(*WORDS, *hardware).folder() for hardware in ((), SHARDED)]


def test_sharded_is_as_whole(both):
    one, sharded = both
    assert one.name == sharded.name
    first, second = map(rows, both)
    assert len(first) == len(second) > 10
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            if "loss" in key:
                assert a[key] == pytest.approx(b[key], rel=1e-3), key


def test_a_checkpoint_is_whole_and_of_the_names_of_any_other(both):
    one, sharded = (checkpoint(folder) for folder in both)
    shapes = [{key: value.shape for key, value in content["state_dict"].items()} for content in (one, sharded)]
    assert shapes[0] == shapes[1]
    for key, value in one["state_dict"].items():
        assert torch.allclose(sharded["state_dict"][key], value, atol=1e-2), key
    (first,), (second,) = (content["optimizer_states"] for content in (one, sharded))
    assert first["state"].keys() == second["state"].keys()
    assert [group["params"] for group in first["param_groups"]] == [group["params"] for group in second["param_groups"]]
    for key, state in first["state"].items():
        assert {k: getattr(v, "shape", None) for k, v in state.items()} == {
            k: getattr(v, "shape", None) for k, v in second["state"][key].items()
        }


@pytest.mark.full
def test_killed_and_started_again_it_goes_on_as_it_was(both, tmp_path):
    words = (*WORDS, *SHARDED, "callbacks.resume.every_seconds=0")
    kill_when_rows(words, "uosr", tmp_path, (25,))
    assert quire(*words, f"runs={tmp_path}").returncode == 0
    assert_same_run(both[1], only_folder(tmp_path))


@pytest.mark.full
def test_killed_sharded_it_goes_on_whole(both, tmp_path):
    words = (*WORDS, "callbacks.resume.every_seconds=0")
    kill_when_rows((*words, *SHARDED), "uosr", tmp_path, (25,))
    done = quire(*words, f"runs={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "goes on from its last resume point" in done.stdout
    losses = [[row["train/loss"] for row in rows(of) if "train/loss" in row] for of in (both[0], only_folder(tmp_path))]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_its_weights_are_tested_by_any_hardware(both, tmp_path):
    best = both[1] / "checkpoints" / "best.ckpt"
    done = quire(*WORDS, "mode=test", f"ckpt={best}", f"runs={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    found = [read(folder / "result.json")["metrics"] for folder in (both[1], only_folder(tmp_path))]
    for key, value in found[1].items():
        if key.startswith("test/"):
            assert value == pytest.approx(found[0][key], rel=1e-3, abs=1e-3), key


@pytest.mark.parametrize("experiment", ["clip_fsar", "dvdp", "geod"])
def test_what_cannot_be_sharded_is_told(experiment, tmp_path):
    done = quire(f"experiment={experiment}", "debug=tiny", *SHARDED, "mode=check", f"runs={tmp_path}")
    assert done.returncode == 2
    assert "between steps" in done.stderr
    assert "take hardware=ddp" in done.stderr


@pytest.mark.full
@pytest.mark.parametrize("experiment", ["neural_dependency", "u_tuning"])
def test_other_papers_are_sharded_too(experiment, tmp_path):
    done = quire(f"experiment={experiment}", "debug=tiny", *SHARDED, f"runs={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
