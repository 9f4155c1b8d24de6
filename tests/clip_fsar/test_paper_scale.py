"""The paper-scale experiments' tiny twins, from video files in their distributed layouts to the table."""

import open_clip
import pytest
import torch

from harness.compose import compose_words
from tests.datamodules.miniature_video import miniature
from tests.door.quire import checkpoint, only_folder, quire, read

SETS = {"hmdb51": "hmdb51", "ucf101": "ucf101", "k100": "k100", "ssv2_full": "ssv2", "ssv2_small": "ssv2"}
# The true encoders of CLIP, untrained, on small pictures for the CPU's sake; elsewhere a small one.
MODELS = {"hmdb51": "RN50-quickgelu", "ssv2_small": "ViT-B-16-quickgelu"}
SMALL = (
    "debug=tiny",
    "data.batch_size=1",
    "data.clip_batch=8",
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


def where(root, kind):
    given = miniature(root, kind)
    words = [f"data.root={given['root']}"]
    return words + [f"data.{key}.{split}={path}" for key in ("lists", "names") for split, path in given[key].items()]


@pytest.mark.parametrize("name", SETS)
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


def test_missing_weights_are_told_before_training(tmp_path):
    done = quire("experiment=clip_fsar_hmdb51", *SMALL, *where(tmp_path, "hmdb51"), f"runs={tmp_path / 'runs'}")
    assert done.returncode == 2
    assert "model.towers.weights: no file weights/RN50.pt" in done.stderr
    assert not list((tmp_path / "runs").rglob("*.ckpt"))


# Section 2.3's table, in iterations of 4 processes: warm-up until, times .1 at, times .01 at, in all, validation every.
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
    config = compose_words([f"experiment=clip_fsar_{name}"])
    schedule, processes = config.model.schedule, config.data.batch_size
    assert processes == config.trainer.accumulate_grad_batches == 4
    told = (schedule.warmup, *schedule.drops, config.data.train_episodes * config.trainer.max_epochs)
    assert (*(count // processes for count in told), config.trainer.val_check_interval) == SCHEDULES[name]
    assert (config.model.optimizer.lr, schedule.warmup_lr) == RATES[name]
    assert config.model.video_text.weight == WEIGHTS[name]
    # Section 2.4: Kinetics alone samples evenly and changes its queries.
    assert (config.data.sampling == "even") == config.data.query_augmentation == (name == "k100")
