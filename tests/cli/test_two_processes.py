"""Every paper on one process and on two: the same noise, the same losses, the same figures."""

import json

import pytest

from tests.cli.quire import only_folder, quire
from tests.tiers import full

# Epochs of three batches with some images left over, and a validation whose last batch cannot be halved.
SMALL = (
    "debug=tiny",
    "trainer.limit_train_batches=1.0",
    "trainer.limit_val_batches=1.0",
    "trainer.limit_test_batches=1",
)
# What is compared is the arithmetic, not how Adam blows up float32 rounding; two papers need float32.
DOUBLE = "hardware.precision=64-true"
SIZES = ("data.batch_size=6", "data.train_size=20", "data.val_size=9")
UOSR = (DOUBLE, *SIZES, "data.test_size=40")
VOS = ("model.objective=vos", "model.vos.queue_size=2", "model.vos.start_fraction=0")
U_TUNING = (DOUBLE, "data.batch_size=26", "model.backbone.weights=null", "model.head_dropout=0.2")
NEURAL_DEPENDENCY = (
    DOUBLE,
    *SIZES,
    "data.num_classes=8",
    "data.moments_size=100",
    "data.test_size=40",
    "trainer.limit_test_batches=1.0",
)
PRETRAINING = ("data.image_size=16", "model.mini.embed_dim=32")
CLIP_FSAR = (
    DOUBLE,
    *PRETRAINING,
    "data.train_clips=8",
    "data.eval_clips=8",
    "data.batch_size=2",
    "data.train_episodes=7",
    "data.eval_batch_size=127",
    "model.evaluation.episodes=10",
    "model.evaluation.validation_episodes=5",
    "trainer.limit_test_batches=1.0",
)
DVDP = (
    "data.batch_size=8",
    "data.train_size=28",
    "data.val_size=11",
    "data.image_size=32",
    "data.test_size=8",
    "model.evaluation.features=null",
    "model.evaluation.samples=4",
    "model.evaluation.steps=4",
    "model.evaluation.curve_steps=[]",
    "model.sampler.steps=3",
    "model.sampler.preview_images=2",
    "model.network.dropout=0.1",
    "model.batch_scale=[1,1,2]",
)
HEADS = (*SIZES, "data.test_size=8")
GEOD = (
    *HEADS,
    "model.triplane.channel_max=16",
    "model.discriminator.channel_max=16",
    "model.evaluation.samples=16",
    "model.evaluation.validation_samples=8",
    "model.evaluation.oracle=null",
    "model.evaluation.features=null",
    "model.guidance.start_kimg=0",
    "model.guidance.end_kimg=0",
    "model.nvs.kind=warp",
)
CASES = [
    ("uosr", UOSR),
    ("u_tuning", (*U_TUNING, "tuner=adaptformer")),
    *full(
        ("uosr", (*UOSR, "model.objective=proser", "model.proser.ce_fraction=0")),
        ("uosr", (*UOSR, "model.objective=lc")),
        (
            "uosr",
            (*UOSR, "model.objective=vos", "data.num_known=2", "model.vos.queue_size=2", "model.vos.start_fraction=0"),
        ),
        ("neural_dependency", NEURAL_DEPENDENCY),
        ("clip_fsar", CLIP_FSAR),
        ("clip_fsar", (*CLIP_FSAR, "model.alignment.metric=trx")),
        ("clip_fsar_pretrain", (DOUBLE, "data.image_size=16", "data.batch_size=6", "trainer.limit_train_batches=3")),
        ("dvdp_features", (DOUBLE, *SIZES, "data.test_size=8", "data.image_size=32")),
    ),
    ("dvdp", DVDP),
    ("geod_joint", GEOD),
    *full(
        ("geod_joint", (*GEOD, "model.guidance.shuffle=true", "model.poses.kind=labels")),
        # At its own rate rounding grows from 3e-6 to 6e-5 within two steps, as pixels become visible or hidden.
        ("geod_ir", (*HEADS, "model.optimizer.lr=1e-5")),
        ("geod_oracle", HEADS),
    ),
]


def rows(experiment, words, runs):
    """Run an experiment; return the rows of its metrics."""
    done = quire(f"experiment={experiment}", *SMALL, *words, f"runs={runs}")
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in (only_folder(runs, experiment) / "metrics.jsonl").read_text().splitlines()]


def is_training(row):
    return any(key.startswith("train/") for key in row)


@pytest.mark.parametrize(("experiment", "words"), CASES)
def test_two_processes_learn_as_one(experiment, words, tmp_path, shared_run):
    if experiment == "clip_fsar":
        made = shared_run("experiment=clip_fsar_pretrain", "debug=tiny", *PRETRAINING)
        words = (*words, f"model.towers.weights={made.folder('clip_fsar_pretrain')}/checkpoints/best.ckpt")
    one, two = (rows(experiment, (*words, f"hardware={name}"), tmp_path / name) for name in ("cpu", "ddp_cpu"))
    assert 6 <= sum(map(is_training, one)) < len(one)
    for a, b in zip(*([row for row in of if is_training(row)][:5] for of in (one, two)), strict=True):
        losses = [{key: value for key, value in row.items() if key.endswith("loss")} for row in (a, b)]
        assert losses[0]
        assert losses[1] == pytest.approx(losses[0], rel=1e-5, abs=1e-5)
    # In float32 a pixel may be seen on one process and hidden on two.
    rest = 1e-5 if DOUBLE in words else 1e-2
    for a, b in zip(one, two, strict=True):
        # A figure that is not a number is kept as a word.
        texts, numbers = (
            [{key: value for key, value in row.items() if isinstance(value, str) == is_text} for row in (a, b)]
            for is_text in (True, False)
        )
        assert texts[0] == texts[1]
        assert numbers[1] == pytest.approx(numbers[0], rel=rest, abs=rest)
