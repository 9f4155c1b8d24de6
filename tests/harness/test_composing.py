"""Composing with memory gives what Hydra gives for each command line alone, for claims and for odd overrides."""

import random
import shutil

import hydra
import pytest
import yaml
from hydra import initialize_config_dir
from omegaconf import OmegaConf
from omegaconf._utils import get_yaml_loader

from common.errors import UserError
from harness.claims.claim_runs import axes
from harness.config import compose, yaml_files
from harness.config.compose import Composed, composed, options, plain
from harness.config.load import load
from harness.config.overrides import cells
from harness.core.paths import CONF
from harness.sweeps.grid import cells as cells_of_sweep

BASE = ["experiment=u_tuning"]
ODD = [
    ["seed=3"],
    ["seed=3", "seed=4"],
    ["tuner.lr=3e-3", "data.shift=plain"],
    ["tuner=lora", "tuner.lr=0.1"],
    ["tuner.lr=0.1", "tuner=lora"],
    ["ckpt=null"],
    ["ckpt='a b,c'"],
    ["headline=[a,b]"],
    ["model.backbone={name: x, depth: 3}"],
    ["+model.more=1"],
    ["++seed=5"],
    ["++model.more=2", "model.more=3"],
    ["~headline"],
    ["seed=7", "~seed", "+seed=8"],
    ["data.seed=11"],
    ["data.seed=${seed}", "seed=12"],
    ["model.num_classes=5", "seed=2"],
    ["model.tuner=null"],
    ["tuner=none", "seed=2"],
    ["data=null", "seed=2"],
    ["data=null", "+data.num_classes=5", "seed=2"],
    ["runs='${oc.env:HOME}'"],
    ["description='takes ${seed}'", "seed=9"],
    ["runtime=???"],
    ["debug=tiny", "data.batch_size=8"],
    ["callbacks.best.monitor=null", "trainer.max_epochs=1"],
    ["hydra.job.name=x", "seed=1"],
    ["hydra/launcher=joblib", "hydra.launcher.n_jobs=1", "seed=1"],
    ["model.tuner.lr=1"],
    ["logger=tensorboard", "is_tiny=true"],
]


def alone(words):
    """Compose by Hydra in full, remembering nothing."""
    config, errors, _ = compose._compose_or_explain(words)
    if errors:
        raise UserError(*errors)
    return config


def outcome(function, words):
    try:
        return function(words)
    except UserError as error:
        return error.lines


def assert_same(words):
    compose._bases.clear()
    assert outcome(composed, words) == outcome(lambda w: Composed.of(alone(w)), words)
    # Another time, on a base that has been used.
    assert outcome(composed, words) == outcome(lambda w: Composed.of(alone(w)), words)

    def whole(function):
        return outcome(lambda w: OmegaConf.to_container(function(w), resolve=False), words)

    expected, loaded = whole(alone), whole(load)
    # What is wrong in the rest of the config follows.
    assert loaded[: len(expected)] == expected if isinstance(expected, list) else loaded == expected


@pytest.mark.parametrize("more", ODD)
def test_odd_overrides(more):
    assert_same([*BASE, *more])


@pytest.mark.parametrize("more", [["seeed=1"], ["model.x=1"], ["tuner=x"], ["+seed=1"], ["~nothing"], ["seed@a=1"]])
def test_bad_overrides_are_told_as_by_hydra(more):
    assert_same([*BASE, "data.shift=plain", *more])


@pytest.mark.parametrize("name", options("claim"))
def test_runs_of_claims(name):
    words = [f"claim={name}"]
    grid = list(cells([*words, *axes(words)]))
    compose._bases.clear()
    for cell in random.Random(name).sample(grid, 5):
        config = alone(cell)
        assert composed(cell) == Composed.of(config)
        assert composed(cell).values == plain(config)


def test_what_is_returned_may_be_changed():
    first = load([*BASE, "seed=1"])
    first.seed = 5
    del first.hydra
    assert load([*BASE, "seed=1"]).seed == 1
    assert composed([*BASE, "seed=2"]).values["seed"] == 2
    assert composed(BASE).values["seed"] == 0


def test_a_changed_file_is_seen(tmp_path, monkeypatch):
    shutil.copytree(CONF, tmp_path / "conf")
    monkeypatch.setattr(compose, "CONF", tmp_path / "conf")
    assert composed(BASE).values["trainer"]["max_epochs"] == 60
    file = tmp_path / "conf" / "experiment" / "u_tuning.yaml"
    file.write_text(file.read_text().replace("max_epochs: 60", "max_epochs: 61"))
    assert composed(BASE).values["trainer"]["max_epochs"] == 61
    file.write_text("a: [1\n")
    with pytest.raises(UserError, match=r"experiment/u_tuning.yaml:2: "):
        composed(BASE)


@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=geod", "hydra/launcher=joblib"],
        ["experiment=uosr_digits", "debug=tiny", "hardware=ddp_bf16"],
        ["claim=u_tuning", "hydra.job.chdir=true", "+hydra.job.env_set.A=1"],
    ],
)
def test_shared_reading_composes_what_hydra_composes(overrides):
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF), job_name="run"):
        by_hydra = hydra.compose("config", overrides=overrides, return_hydra_config=True)
    for _ in range(2):
        with compose.own_hydra():
            shared = hydra.compose("config", overrides=overrides, return_hydra_config=True)
        assert OmegaConf.to_yaml(shared) == OmegaConf.to_yaml(by_hydra)
        shared.hydra.job.name = "changed"
        shared.trainer.max_epochs = -5


def test_files_are_read_as_omegaconf_reads_them():
    for file in CONF.rglob("*.yaml"):
        assert repr(yaml_files.read_yaml(file)) == repr(yaml.load(file.read_text(), Loader=get_yaml_loader()) or {})


@pytest.mark.parametrize(
    "text", ["a: 1e-3", "a: 2020-01-01", "a: yes", "a: [1, x]", "a: 0o7", "a: .inf", "a: '1'", "1: 2", "a: {b: c:d}"]
)
def test_values_are_those_of_omegaconf(text, tmp_path):
    (tmp_path / "a.yaml").write_text(text)
    assert repr(yaml_files.read_yaml(tmp_path / "a.yaml")) == repr(yaml.load(text, Loader=get_yaml_loader()))


@pytest.mark.parametrize("text", ["a: 1\na: 2", "a: [1\n", "a: b: c"])
def test_broken_files_are_told_with_their_line(text, tmp_path):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError, match=r"a\.yaml:[12]: "):
        yaml_files.read_yaml(tmp_path / "a.yaml")


def test_cells_are_numbered_as_in_the_whole_grid():
    words = ["claim=u_tuning", "seed=0", "data.shift=plain"]
    runs = cells_of_sweep(words, load(words))
    grid = list(cells([*axes(words), *words]))
    assert len(runs) == 11
    for number, (own, config) in runs.items():
        assert sorted(own) == sorted(grid[number])
        assert config.values["tuner"]["lr"] == float(next(w for w in own if "tuner.lr" in w).partition("=")[2])


def test_a_value_set_for_one_run_is_gone_for_the_next():
    words = ["experiment=dvdp"]
    seeded = composed([*words, "seed=5", "data.image_size=32"]).values
    assert (seeded["seed"], seeded["data"]["seed"], seeded["model"]["image_size"]) == (5, 5, 32)
    # Both ways of composing stand on the same base.
    later, plain_later = composed([*words, "mode=test"]).values, plain(load(words))
    for values in (later, plain_later):
        assert (values["seed"], values["data"]["seed"], values["model"]["image_size"]) == (0, 0, 64)
