"""The experiments of DVDP from the command line: tiny twins, resume, two processes, and pictures of a finished run."""

import json

import pytest
from PIL import Image

from tests.cli.quire import assert_same_run, call, checkpoint, kill_when_rows, only_folder, quire, read
from tests.tiers import full

EXPERIMENTS = ("dvdp", "dvdp_ddpm", "dvdp_early", "dvdp_short", "dvdp32", "dvdp32_ddpm", "dvdp32_late")
FEW = ("model.evaluation.samples=8", "model.evaluation.steps=6", "model.evaluation.curve_steps=[4]")
SMALL = ("debug=tiny", *FEW, "model.sampler.steps=3", "model.sampler.preview_images=4", "data.image_size=32")


@pytest.fixture(scope="module")
def finished(shared_run):
    """A finished `dvdp`, and the network that it needs."""
    return shared_run("experiment=dvdp", *SMALL)


@pytest.mark.parametrize("experiment", ["dvdp", "dvdp32_late", *full(*EXPERIMENTS[1:-1])])
def test_the_tiny_twin_of_every_experiment_that_runs_here(experiment, finished, tmp_path):
    runs = finished.runs
    if experiment != "dvdp":
        runs = tmp_path
        finished.copy(runs, "dvdp_features")
        done = quire(f"experiment={experiment}", *SMALL, f"runs={runs}")
        assert done.returncode == 0, done.stdout + done.stderr
    folder = only_folder(runs, experiment)
    metrics = read(folder / "result.json")["metrics"]
    assert {"test/fd", "test/psd_error", "test/gmacs", "test/steps4/fd", "val/loss"} <= metrics.keys()
    assert metrics["test/images_seen"] == 6 * 16
    pictures = {path.stem for path in (folder / "pictures").glob("*.png")}
    assert pictures >= {"samples", "real", "forward_chain", "reverse_chain", "cost_quality", "training_samples"}
    (table,) = read(folder / "result.json")["tables"]
    assert [row[0] for row in read(folder / table)["rows"]] == [4, 6]
    # The network that it needs is made once.
    assert read(only_folder(runs, "dvdp_features") / "result.json")["metrics"]["test/acc"] > 0


@pytest.mark.full
def test_a_training_that_ends_between_validations_is_tested(tmp_path):
    words = ("trainer.val_check_interval=2", "trainer.limit_val_batches=0", "model.evaluation.features=null")
    done = quire("experiment=dvdp", *SMALL, *words, f"runs={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = only_folder(tmp_path, "dvdp")
    assert checkpoint(folder, "best.ckpt")["global_step"] == checkpoint(folder)["global_step"] == 6


@pytest.mark.full
def test_killed_and_started_again_it_is_the_same_run(tmp_path):
    words = ("experiment=dvdp", *SMALL, "callbacks.resume.every_seconds=0", "model.evaluation.features=null")
    assert quire(*words, f"runs={tmp_path / 'straight'}").returncode == 0
    broken = tmp_path / "broken"
    kill_when_rows(words, "dvdp", broken, (3, 9))
    assert quire(*words, f"runs={broken}").returncode == 0
    assert_same_run(only_folder(tmp_path / "straight", "dvdp"), only_folder(broken, "dvdp"))


@pytest.mark.parametrize("share", ["shared", *full("per_level")])
def test_two_processes_draw_the_same_levels(share, tmp_path):
    # With levels of their own, the ranks' gradients would be of different networks, or never come (dvdp §2.6).
    words = (f"model.network.weight_sharing={share}", "model.network.attention=[8]", "model.evaluation.features=null")
    done = quire("experiment=dvdp", *SMALL, *words, "hardware=ddp_cpu", "trainer.max_epochs=4", f"runs={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = only_folder(tmp_path, "dvdp")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    # Means over both ranks: whole only if the ranks agree.
    levels = [row["train/level"] for row in rows if "train/level" in row]
    assert len(levels) == 12
    assert all(level in {0, 1, 2} for level in levels)
    assert len(set(levels)) > 1
    assert read(folder / "result.json")["metrics"]["test/images_seen"] == 12 * 16


def test_pictures_of_a_finished_run(finished, tmp_path):
    finished.copy(tmp_path)
    folder = only_folder(tmp_path, "dvdp")
    words = ("mode=sample", f"run={folder}", "n=5", "steps=4")
    done = quire(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "of a tiny run" in done.stdout
    place = folder / "samples" / "count-5_seed-0_steps-4"
    names = [*(f"{k:05d}.png" for k in range(5)), "grid.png", "samples.json"]
    assert sorted(path.name for path in place.iterdir()) == names
    assert read(place / "samples.json")["options"] == {"count": 5, "seed": 0, "steps": 4}
    assert Image.open(place / "00003.png").size == (32, 32)
    before = (place / "00003.png").read_bytes()
    again = call(*words)
    assert again.returncode == 2
    assert again.stderr.count("\n") == 1
    assert "force=true" in again.stderr
    assert quire(*words, "force=true").returncode == 0
    assert (place / "00003.png").read_bytes() == before
    assert quire(*words, "seed=1").returncode == 0
    assert (folder / "samples" / "count-5_seed-1_steps-4" / "00003.png").read_bytes() != before
    assert len(list((folder / "samples").iterdir())) == 2
    # The same options by their full names.
    full = call("mode=sample", f"run={folder}", "sample.count=5", "sample.steps=4")
    assert "exists already" in full.stderr


def test_pictures_of_an_unfinished_run_in_another_place_say_what_they_are(finished, tmp_path):
    finished.copy(tmp_path)
    moved = only_folder(tmp_path, "dvdp").rename(tmp_path / "moved, away")
    (moved / "checkpoints" / "best.ckpt").unlink()
    (moved / "status.json").write_text('{"status": "preempted"}')
    done = quire("mode=sample", f"run={moved}", "n=2", "steps=4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "of an unfinished run (preempted), from last.ckpt" in done.stdout
    remarks = read(moved / "samples" / "count-2_seed-0_steps-4" / "samples.json")["remarks"]
    assert [remark.partition(" (")[0] for remark in remarks] == ["of an unfinished run", "of a tiny run"]


def test_what_may_be_asked_is_listed(finished):
    done = call("mode=sample", f"run={finished.folder('dvdp')}", "sample=help")
    assert done.returncode == 0
    for text in ("sample.count", "64", "Number of images.", "sample.steps", "null", "Reverse steps"):
        assert text in done.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run=nowhere"], "not a run folder"),
        ([], "give run=runs/EXPERIMENT/NAME"),
        (["run={run}", "n=0"], "n: is 0, should be at least 1"),
        (["run={run}", "sample.stesp=4"], "did you mean sample.steps"),
        (["run={run}", "sample.seed=-1"], "at least 0"),
        (["run={run}", "sample.count=many"], "should be a whole number"),
        (["run={run}", "mesh=true"], "mesh: no such option"),
        (["run={run}", "force=perhaps"], "should be true or false"),
        (["run={run}", "steps=none"], "should be a whole number"),
        (["run={run}", "hardware=tpu"], "did you mean"),
        (["run={run}", "hardware=gpu"], "no GPU"),
        (["run={run}", "step=4"], "did you mean steps"),
        (["run={run}", "steps=5000"], "to 1000"),
        (["run={features}"], "makes no images"),
        (["run={unfinished}"], "has no checkpoint yet"),
    ],
)
def test_what_no_picture_can_be_made_of_is_told_in_one_line(words, told, finished, tmp_path):
    run = finished.folder("dvdp")
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "lock.json").write_bytes((run / "lock.json").read_bytes())
    places = {"run": run, "features": finished.folder("dvdp_features"), "unfinished": unfinished}
    done = call("mode=sample", *(word.format(**places) for word in words))
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("model.process.turning_points=[350,150]", "later than the one before"),
        ("model.process.delta=0", "above 0"),
        ("data.image_size=36", "multiple of 16"),
        ("model.process.attenuation=geometrical", "geometric"),
        ("model.evaluation.steps=2", "should be 3"),
    ],
)
def test_a_process_that_cannot_be_is_told_in_one_line(word, told, tmp_path):
    done = call("experiment=dvdp", "debug=tiny", word, f"runs={tmp_path}")
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("status.json"))
