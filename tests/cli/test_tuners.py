"""Tuners from the command line: the tuning experiment, the UOSR classifier, checkpoints, kill and resume, cost."""

import pytest

from tests.cli.quire import TINY, call, checkpoint, kill, only_folder, quire, read, start, wait_for
from tests.tiers import full

TUNED = ("experiment=u_tuning", "debug=tiny")


@pytest.mark.parametrize("experiment", ["u_tuning_pretrain", "u_tuning", *full("u_tuning_glyphs")])
def test_the_tiny_twin_of_every_experiment_that_runs_here(experiment, shared_run):
    done = shared_run(f"experiment={experiment}" if experiment == "u_tuning_glyphs" else TUNED[0], "debug=tiny")
    assert done.stderr == ""
    folder = done.folder(experiment)
    result = read(folder / "result.json")
    assert {"test/acc", "test/loss", "val/acc"} <= set(result["metrics"])
    assert (folder / "pictures" / "predictions.png").stat().st_size > 1000
    assert (result["cost"]["tuner"] is None) == (experiment == "u_tuning_pretrain")


def test_the_checkpoint_is_small_and_is_tested_alone(tmp_path, shared_run):
    shared_run(*TUNED).copy(tmp_path)
    folder = only_folder(tmp_path, "u_tuning")
    best = folder / "checkpoints" / "best.ckpt"
    backbone = next((tmp_path / "u_tuning_pretrain").iterdir()) / "checkpoints" / "best.ckpt"
    assert best.stat().st_size < 0.1 * backbone.stat().st_size
    assert not [key for key in checkpoint(folder, "best.ckpt")["state_dict"] if key.startswith("backbone.")]
    again = quire(*TUNED, f"runs={tmp_path}", "mode=test", f"ckpt={best}")
    assert again.returncode == 0, again.stdout + again.stderr
    results = [read(path) for path in (tmp_path / "u_tuning").glob("*/result.json")]
    assert len({result["metrics"]["test/acc"] for result in results}) == 1


@pytest.mark.full
@pytest.mark.parametrize("tuner", ["u_block", "lora"])
def test_a_killed_run_goes_on_to_the_same_weights(tuner, tmp_path, shared_run):
    words = (*TUNED, f"tuner={tuner}", "trainer.max_epochs=6", "callbacks.resume.every_seconds=0")
    runs = tmp_path / "killed"
    for place in (tmp_path / "straight", runs):
        shared_run(*TUNED).copy(place, "u_tuning_pretrain")
    assert quire(*words, f"runs={tmp_path / 'straight'}").returncode == 0
    process = start(*words, f"runs={runs}")
    wait_for(lambda: list((runs / "u_tuning").glob("*/checkpoints/last.ckpt")), process)
    kill(process)
    done = quire(*words, f"runs={runs}")
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = only_folder(tmp_path / "straight", "u_tuning"), only_folder(runs, "u_tuning")
    a, b = checkpoint(first)["state_dict"], checkpoint(second)["state_dict"]
    assert a.keys() == b.keys()
    assert all((a[key] == b[key]).all() for key in a)
    assert read(first / "result.json")["metrics"] == read(second / "result.json")["metrics"]


@pytest.mark.full
def test_a_tuner_on_the_uosr_classifier(tmp_path):
    words = ("experiment=uosr_pretrained", "debug=tiny", "tuner=u_block", f"runs={tmp_path}")
    done = quire(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = only_folder(tmp_path, "uosr_pretrained")
    stored = checkpoint(folder, "best.ckpt")["state_dict"]
    assert not [key for key in stored if key.startswith("network.backbone.")]
    assert [key for key in stored if key.startswith("tuner.")]
    assert read(folder / "result.json")["cost"]["tuner"] > 0


def test_cost_shows_the_tuner_without_the_head():
    done = call("experiment=u_tuning_cifar100", "tuner=adapter", "mode=cost", "data.root=/nowhere")
    assert done.returncode == 0, done.stdout + done.stderr
    # u_tuning §2.7: 193,656 of the adapter, and 76,900 of the head.
    assert "193,656" in done.stdout
    assert f"{193_656 + 76_900:,}" in done.stdout


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["experiment=u_tuning", "tuner=u_blok"], "no tuner named 'u_blok' - did you mean u_block"),
        (["experiment=u_tuning", "tuner.lr=fast"], "tuner.lr: is 'fast', should be a number"),
        ([*TINY, "tuner=u_mha"], "use tuner=u_block"),
        ([*TINY, "tuner=vpt_deep"], "use tuner=u_block"),
    ],
)
def test_what_does_not_go_together_is_one_line(words, line, tmp_path):
    done = call(*words, f"runs={tmp_path}")
    assert done.returncode == 2, done.stdout + done.stderr
    assert line in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
