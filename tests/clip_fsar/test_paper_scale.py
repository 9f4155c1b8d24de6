"""The paper-scale experiments' tiny twins, from video files in their distributed layouts to the table."""

import open_clip
import pytest
import torch

from harness.config.load import load
from tests.cli.quire import call, checkpoint, only_folder, quire, read
from tests.datamodules.miniature_video import miniature
from tests.tiers import full

SETS = {"hmdb51": "hmdb51", "ucf101": "ucf101", "k100": "k100", "ssv2_full": "ssv2", "ssv2_small": "ssv2"}
# The true encoders of CLIP, untrained, on small pictures for the CPU's sake; elsewhere a small one.
MODELS = {"hmdb51": "RN50-quickgelu", "ssv2_small": "ViT-B-16-quickgelu"}
SMALL = (
    "debug=tiny",
    "data.batch_size=1",
    "data.eval_batch_size=8",
    "data.queries=1",
    "data.image_size=32",
    "data.resize=36",
    "trainer.limit_train_batches=2",
    "trainer.max_epochs=1",
    "trainer.limit_val_batches=5",
    "trainer.limit_test_batches=5",
    "model.evaluation.episodes=20",
    "model.evaluation.validation_episodes=10",
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Return a function from a model's name to a file of untrained weights, in half precision as OpenAI's."""
    folder, made = tmp_path_factory.mktemp("weights"), {}

    def of(name):
        if name not in made:
            torch.manual_seed(0)
            clip = open_clip.create_model(name, load_weights=False, force_image_size=32).half()
            made[name] = folder / f"{name}.pt"
            torch.save(clip.state_dict(), made[name])
        return made[name]

    return of


def where(root, kind, **sizes):
    given = miniature(root, kind, **sizes)
    words = [f"data.root={given['root']}"]
    return words + [f"data.{key}.{split}={path}" for key in ("lists", "names") for split, path in given[key].items()]


@pytest.mark.full
def test_few_clips_of_many_classes_are_enough_for_a_tiny_run(weights, tmp_path):
    # As many test classes as Kinetics-100 has.
    words = ["debug=tiny", "data.batch_size=1", "data.queries=1", *SMALL[4:6], *where(tmp_path, "k100", classes=24)]
    words += [
        *SMALL[6:8],
        *SMALL[-2:],
        "model.towers.name=ViT-S-32-alt",
        f"model.towers.weights={weights('ViT-S-32-alt')}",
    ]
    done = quire("experiment=clip_fsar_k100", *words, f"runs={tmp_path / 'runs'}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test/acc_5shot" in read(only_folder(tmp_path / "runs", "clip_fsar_k100") / "result.json")["metrics"]


@pytest.mark.parametrize("name", ["k100", *full("hmdb51", "ucf101", "ssv2_full", "ssv2_small")])
def test_the_tiny_twin_runs_from_video_files_to_table(name, weights, tmp_path):
    model = MODELS.get(name, "ViT-S-32-alt")
    words = [*SMALL, *where(tmp_path, SETS[name]), f"model.towers.name={model}", f"runs={tmp_path / 'runs'}"]
    done = quire(f"experiment=clip_fsar_{name}", *words, f"model.towers.weights={weights(model)}")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = only_folder(tmp_path / "runs", f"clip_fsar_{name}")
    metrics = read(folder / "result.json")["metrics"]
    assert {"test/acc_1shot_ci", "test/ensemble_5shot", "test/permuted_1shot"} <= metrics.keys()
    trained = checkpoint(folder, "best.ckpt")
    assert {key.split(".")[0] for key in trained["state_dict"]} == {"visual", "context", "scale"}
    size = {"RN50-quickgelu": 1024, "ViT-B-16-quickgelu": 512}.get(model)
    if size:
        assert trained["state_dict"]["context.0.attention.query.weight"].shape == (size, size)
    if SETS[name] == "ssv2":
        assert "a photo of Pushing [something] from {left} test 4" in trained["names"]


@pytest.mark.full
def test_a_checkpoint_is_tested_on_another_set(weights, tmp_path):
    # Names of the other set are read, and no class of the first is needed (§2.2).
    words = [*SMALL, "model.towers.name=ViT-S-32-alt", f"model.towers.weights={weights('ViT-S-32-alt')}"]
    first = quire(
        "experiment=clip_fsar_hmdb51", *words, *where(tmp_path / "one", "hmdb51"), f"runs={tmp_path / 'runs'}"
    )
    assert first.returncode == 0, first.stdout + first.stderr
    best = only_folder(tmp_path / "runs", "clip_fsar_hmdb51") / "checkpoints" / "best.ckpt"
    other = (
        "data=ssv2_small",
        *where(tmp_path / "two", "ssv2"),
        "mode=test",
        f"ckpt={best}",
        f"runs={tmp_path / 'other'}",
    )
    done = quire("experiment=clip_fsar_hmdb51", *words, *other)
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = read(only_folder(tmp_path / "other", "clip_fsar_hmdb51") / "result.json")["metrics"]
    assert "test/zero_shot_1shot" in metrics
    picture = only_folder(tmp_path / "other", "clip_fsar_hmdb51") / "pictures" / "episode.png"
    assert picture.is_file()


@pytest.mark.full
def test_a_clip_that_cannot_be_read_gets_one_line(weights, tmp_path):
    words = [*SMALL, *where(tmp_path, "hmdb51"), "model.towers.name=ViT-S-32-alt", "data.num_workers=1"]
    for clip in tmp_path.rglob("clip_0.avi"):
        clip.write_bytes(b"no video")
    words += [f"model.towers.weights={weights('ViT-S-32-alt')}", f"runs={tmp_path / 'runs'}"]
    done = quire("experiment=clip_fsar_hmdb51", *words)
    assert done.returncode == 2
    assert "clip_0.avi is not a whole video" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["clip_fsar_hmdb51", *full("clip_fsar", "clip_fsar_frozen", "clip_fsar_pretrain")])
def test_costs_are_told_without_weights_or_clips(name, tmp_path):
    done = quire(f"experiment={name}", "mode=cost", f"runs={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "GFLOPs" in done.stdout


def test_missing_weights_are_told_before_training(tmp_path):
    done = call("experiment=clip_fsar_hmdb51", *SMALL, *where(tmp_path, "hmdb51"), f"runs={tmp_path / 'runs'}")
    assert done.returncode == 2
    assert "model.towers.weights: no file weights/RN50.pt" in done.stderr
    assert not list((tmp_path / "runs").rglob("*.ckpt"))


# The table of §2.7, in iterations of 4 processes: warm-up until, times .1 at, .01 at, in all, validation every.
SCHEDULES = {
    "k100": (250, 750, 1250, 5000, 100),
    "hmdb51": (700, 1400, 2100, 5000, 300),
    "ucf101": (600, 1200, 1800, 3000, 100),
    "ssv2_full": (4000, 8000, 12000, 30000, 1000),
    "ssv2_small": (2000, 4000, 6000, 30000, 1000),
}
RATES = {"k100": (1e-5, 5e-6), "hmdb51": (1e-5, 1e-6), "ucf101": (2e-6, 1e-7), "ssv2_full": (5e-5, 1e-5)}
RATES["ssv2_small"] = (5e-5, 2e-5)
WEIGHTS = {"k100": 1.5, "ucf101": 1.5, "hmdb51": 1.2, "ssv2_full": 3.0, "ssv2_small": 3.0}


@pytest.mark.parametrize("name", SETS)
def test_the_recipe_is_that_of_the_released_loop(name):
    config = load([f"experiment=clip_fsar_{name}"])
    schedule, trainer, episodes = config.model.schedule, config.trainer, config.data.train_episodes
    # 16 episodes of 4 processes make a step; here they are accumulated on one.
    step = config.data.batch_size * trainer.accumulate_grad_batches
    assert step == 16
    assert episodes % step == 0
    told = (schedule.warmup, *schedule.drops, step * trainer.max_steps, episodes)
    assert tuple(count // 4 for count in told) == SCHEDULES[name]
    assert episodes * (trainer.max_epochs - 1) < step * trainer.max_steps <= episodes * trainer.max_epochs
    assert (config.model.optimizer.lr, schedule.warmup_lr) == RATES[name]
    assert config.model.optimizer.weight_decay == (5e-4 if name == "k100" else 5e-5)
    assert config.model.video_text.weight == WEIGHTS[name]


@pytest.mark.parametrize("name", [*(f"clip_fsar_{name}" for name in SETS), "clip_fsar"])
def test_every_experiment_is_of_the_papers_method(name):
    config = load([f"experiment={name}"])
    # Both directions and lambda 0.5 (§2.6), a scale of 1 (§2.3), one shot in training (§2.7), shots merged before
    # the Transformer (§2.5).
    alignment = config.model.alignment
    assert (alignment.metric, alignment.smoothness, alignment.bidirectional) == ("otam", 0.5, True)
    assert config.model.video_text.scale == 1
    assert (config.data.shots, config.model.shots, config.model.context.average_shots_first) == (1, 1, True)
    assert config.model.evaluation.shots == [1, 5]
    assert config.model.evaluation.episodes == 10000
    assert (config.data.ways, config.data.queries, config.data.frames) == (5, 5, 8)
    # Never by the test (§3.2).
    assert config.callbacks.best.monitor == "val/acc"
    # Kinetics alone samples evenly and augments its queries (§2.8).
    if name != "clip_fsar":
        assert (config.data.sampling == "even") == config.data.query_augmentation == (name == "clip_fsar_k100")
