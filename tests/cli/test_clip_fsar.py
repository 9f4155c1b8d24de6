"""The experiments of CLIP-FSAR from the command line: tiny twins, resume, two processes, tests alone, tuners."""

import json

import pytest

from tests.cli.quire import assert_same_run, call, checkpoint, kill_when_rows, only_folder, quire, read
from tests.tiers import full

ARMS = ("clip_fsar", "clip_fsar_no_text", "clip_fsar_modulation", "clip_fsar_video_text", "clip_fsar_frozen")
SMALL = (
    "debug=tiny",
    "data.batch_size=2",
    "data.image_size=16",
    "data.train_clips=8",
    "data.eval_clips=8",
    "model.mini.embed_dim=32",
    "model.evaluation.episodes=40",
    "model.evaluation.validation_episodes=20",
)


@pytest.fixture(scope="module")
def finished(shared_run):
    """A finished `clip_fsar`, and the pretraining that it needs."""
    return shared_run("experiment=clip_fsar", *SMALL)


@pytest.fixture(scope="module")
def runs(finished):
    return finished.runs


@pytest.mark.parametrize("experiment", [ARMS[0], *full(*ARMS[1:])])
def test_the_tiny_twin_of_every_arm(experiment, finished, tmp_path):
    runs = finished.runs
    if experiment != "clip_fsar":
        runs = tmp_path
        finished.copy(runs, "clip_fsar_pretrain")
        done = quire(f"experiment={experiment}", *SMALL, f"runs={runs}")
        assert done.returncode == 0, done.stdout + done.stderr
        # The pretraining was made before and is not made again.
        assert only_folder(runs, "clip_fsar_pretrain").name == finished.folder("clip_fsar_pretrain").name
    folder = only_folder(runs, experiment)
    metrics = read(folder / "result.json")["metrics"]
    kinds = {"acc", "zero_shot", "ensemble"} | (
        {"permuted"} if experiment in ("clip_fsar", "clip_fsar_modulation") else set()
    )
    expected = {f"test/{kind}_{shots}shot{end}" for kind in kinds for shots in (1, 5) for end in ("", "_ci")}
    assert {name for name in metrics if name.startswith("test/")} == expected | {"test/acc_1less5shot"}
    assert {path.name for path in (folder / "pictures").iterdir()} == {"episode.png", "alignment.png"}
    state = checkpoint(folder, "best.ckpt")["state_dict"] if experiment != "clip_fsar_frozen" else {}
    assert {name.split(".")[0] for name in state} <= {"visual", "context", "scale"}


@pytest.mark.full
def test_killed_and_started_again_it_goes_on_as_it_was(runs, tmp_path):
    weights = only_folder(runs, "clip_fsar_pretrain") / "checkpoints" / "best.ckpt"
    words = ("experiment=clip_fsar", *SMALL, f"model.towers.weights={weights}", "callbacks.resume.every_seconds=0")
    assert quire(*words, f"runs={tmp_path / 'straight'}").returncode == 0
    broken = tmp_path / "broken"
    kill_when_rows(words, "clip_fsar", broken, (2, 4))
    assert quire(*words, f"runs={broken}").returncode == 0
    assert_same_run(*(only_folder(tmp_path / name, "clip_fsar") for name in ("straight", "broken")))


def test_two_processes_have_the_same_episodes(runs, tmp_path):
    # Nothing is trained, so figures agree only if the episodes do (clip_fsar §2.1).
    weights = only_folder(runs, "clip_fsar_pretrain") / "checkpoints" / "best.ckpt"
    found = {}
    for hardware in ("cpu", "ddp_cpu"):
        words = ("experiment=clip_fsar_frozen", *SMALL, f"model.towers.weights={weights}", f"hardware={hardware}")
        # The last batch of the test has one clip: the second process has none of it.
        done = quire(*words, "model.evaluation.episodes=41", "data.eval_batch_size=127", f"runs={tmp_path / hardware}")
        assert done.returncode == 0, done.stdout + done.stderr
        found[hardware] = read(only_folder(tmp_path / hardware, "clip_fsar_frozen") / "result.json")["metrics"]
    assert len(found["cpu"]) > 10
    assert found["ddp_cpu"] == pytest.approx(found["cpu"], abs=1e-3)


def test_a_checkpoint_is_tested_alone(runs, tmp_path):
    best = only_folder(runs, "clip_fsar") / "checkpoints" / "best.ckpt"
    done = quire("experiment=clip_fsar", *SMALL, "mode=test", f"ckpt={best}", f"runs={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    one, other = (read(only_folder(place, "clip_fsar") / "result.json")["metrics"] for place in (runs, tmp_path))
    assert one["test/acc_1shot"] == other["test/acc_1shot"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("model.alignment.metric=trx",), "it was made with model.alignment.metric=otam"),
        *full((("model.context.depth=2",), "it was made with model.context.depth=1")),
    ],
)
def test_a_checkpoint_of_another_form_gets_one_line(words, expected, runs, tmp_path):
    best = only_folder(runs, "clip_fsar") / "checkpoints" / "best.ckpt"
    done = call("experiment=clip_fsar", *SMALL, *words, "mode=test", f"ckpt={best}", f"runs={tmp_path}")
    assert done.returncode == 2
    assert expected in done.stderr
    assert "does not fit this network" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.full
def test_the_mini_clip_has_the_sizes_asked_for(tmp_path):
    words = ("model.mini.width=32", "model.mini.layers=1", "trainer.max_epochs=1")
    done = quire("experiment=clip_fsar", *SMALL, *words, f"runs={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.full
@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_true_precisions_are_run_whole(precision, runs, tmp_path):
    weights = only_folder(runs, "clip_fsar_pretrain") / "checkpoints" / "best.ckpt"
    words = (f"model.towers.weights={weights}", f"hardware.precision={precision}", "trainer.max_epochs=1")
    done = quire("experiment=clip_fsar", *SMALL, *words, f"runs={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("tuner", ["lora", *full("u_block")])
def test_a_tuner_is_an_override_away(tuner, runs, tmp_path):
    weights = only_folder(runs, "clip_fsar_pretrain") / "checkpoints" / "best.ckpt"
    words = ("experiment=clip_fsar", *SMALL, f"model.towers.weights={weights}", f"tuner={tuner}")
    done = quire(*words, f"runs={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = only_folder(tmp_path, "clip_fsar")
    assert read(folder / "result.json")["cost"]["tuner"]
    # The encoder is the pretrained one's and stays out of the checkpoint.
    kept = checkpoint(folder, "best.ckpt")
    assert kept["tuner"]["left_out"]
    assert not any(
        name.startswith("visual.") and "weight" in name and "lora" not in name for name in kept["state_dict"]
    )
    best = folder / "checkpoints" / "best.ckpt"
    done = quire(*words[:-1], "mode=test", f"ckpt={best}", f"runs={tmp_path / 'other'}")
    assert done.returncode == 2
    assert "the checkpoint was made with a tuner, and none is here" in done.stderr


@pytest.mark.full
def test_mixed_precision_learns_much_the_same(runs, tmp_path):
    weights = only_folder(runs, "clip_fsar_pretrain") / "checkpoints" / "best.ckpt"
    found = {}
    for precision in ("32-true", "bf16-mixed"):
        words = ("experiment=clip_fsar", *SMALL, f"model.towers.weights={weights}", f"hardware.precision={precision}")
        done = quire(*words, f"runs={tmp_path}/{precision}")
        assert done.returncode == 0, done.stdout + done.stderr
        rows = (only_folder(tmp_path / precision, "clip_fsar") / "metrics.jsonl").read_text().splitlines()
        found[precision] = next(row["train/few_shot"] for row in map(json.loads, rows) if "train/few_shot" in row)
    assert found["bf16-mixed"] == pytest.approx(found["32-true"], rel=0.1)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("experiment=clip_fsar", "model.towers.name=RN5O"), "no model 'RN5O'"),
        (("experiment=clip_fsar", "model.towers.weights=none.pt"), "no file none.pt"),
        (("experiment=clip_fsar", "data.ways=25"), "25-way episodes need 25 classes"),
        (("experiment=clip_fsar", "model.alignment.metric=dtw"), "otam"),
        (
            ("experiment=clip_fsar_hmdb51",),
            "no file data.lists.fit=data/hmdb51/hmdb51_train.txt; expected there: lines",
        ),
    ],
)
def test_typos_and_missing_files_get_one_line(words, expected, finished, tmp_path):
    # Episodes are drawn, and refused, once the pretraining is there.
    finished.copy(tmp_path, "clip_fsar_pretrain")
    small = SMALL if "experiment=clip_fsar" in words else SMALL[:1]
    done = call(*words, *small, f"runs={tmp_path}")
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
