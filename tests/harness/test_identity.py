"""A run's name changes with all that can change its result, and with nothing else."""

import pytest

from harness.config.compose import composed, plain
from harness.config.identity import config_identity, identity, run_folder, slug
from harness.config.load import load


def name(*words):
    return identity(plain(load(["experiment=uosr", *words])))


@pytest.mark.parametrize(
    "word",
    ["hardware=ddp_cpu", "hardware.devices=4", "logger=local", "data.num_workers=3", "force=true", "runs=/elsewhere",
     "callbacks.resume.every_seconds=5", "mode=test", "description=other"],
)  # fmt: skip
def test_what_cannot_change_the_result(word):
    assert name(word) == name()


@pytest.mark.parametrize(
    "word",
    ["seed=1", "hardware.precision=bf16-mixed", "data.batch_size=64", "trainer.max_epochs=9", "model.objective=oe",
     "model.optimizer.lr=1", "ckpt=/some/where.ckpt", "debug=tiny",
     "callbacks.best.monitor=val/acc", "callbacks.best.mode=min"],
)  # fmt: skip
def test_what_can_change_the_result(word):
    assert name(word) != name()


def test_the_order_of_words_is_nothing():
    assert name("seed=1", "model.objective=oe") == name("model.objective=oe", "seed=1")


def test_slugs_are_the_changed_keys():
    words = ["experiment=uosr", "model.objective=oe", "seed=2", "hardware=ddp", "logger=local", "runs=/x", "force=true"]
    config = plain(load(["experiment=uosr"]))
    assert slug(words, config) == "objective-oe_seed-2"
    assert slug(["experiment=uosr"], config) == "default"
    assert "/" not in slug(["ckpt=/a/b c.ckpt", "model.lc.hidden=[1,2]"], config)


def test_a_slug_names_as_much_of_a_key_as_tells_it_from_others():
    config = {"seed": 0, "data": {"seed": 1}, "model": {"generator": {"lr": 1}, "discriminator": {"lr": 2}, "depth": 3}}
    changed = ["model.discriminator.lr=3", "model.generator.lr=4", "data.seed=5", "model.depth=6"]
    assert slug(changed, config) == "data.seed-5_depth-6_discriminator.lr-3_generator.lr-4"
    # Of a key that is another one's end, all is named.
    assert slug(["seed=7"], config) == "seed-7"
    assert slug(["+model.new.lr=1"], config) == "new.lr-1"


def test_a_folder_that_bears_the_hash_is_found_whatever_its_slug(tmp_path):
    config = plain(load(["experiment=uosr", "seed=0", f"runs={tmp_path}"]))
    first = run_folder(config, "uosr", ["experiment=uosr", "seed=0"])
    first.mkdir(parents=True)
    assert first.name.startswith("seed-0-")
    assert run_folder(config, "uosr", ["experiment=uosr"]) == first


# Hashes from before any key had a second name.
HASHES = {
    "dvdp": "ed1dd193422c8e77",
    "dvdp debug=tiny": "afa3d34bd2e8281e",
    "clip_fsar": "0f78383ca9e130f1",
    "geod": "2ba71d1f62ea6315",
    "geod_pigan": "c7637457ef857079",
    "geod_shapenet_cars": "6c7faa21e9652154",
    "neural_dependency_between": "2e7dc067fc2dec40",
    "u_tuning": "414634a39bf24a5d",
    "uosr": "4cd11bce80baa333",
}


@pytest.mark.parametrize("experiment", HASHES)
def test_other_names_of_keys_are_the_same_run(experiment):
    config = composed(f"experiment={experiment}".split()).values
    assert config_identity(config) == HASHES[experiment]
