"""Every bad input is one clear line, exit code 2, no traceback, nothing written."""

import shutil
import subprocess
import sys

import pytest
import torch

from tests.cli.forks import ENVIRONMENT, ROOT
from tests.cli.quire import TINY, call, new_python

CASES = {
    "unknown experiment": (["experiment=uosrr"], "no experiment named 'uosrr' - did you mean uosr"),
    "unknown option": (["experiment=uosr", "hardware=cup"], "no hardware named 'cup' - did you mean cpu?"),
    "unknown group": (
        ["experiment=uosr", "hardwar=cpu"],
        "hardwar: no such key in the config - did you mean",
    ),
    "typo": (["experiment=uosr", "model.objectve=oe"], "model.objectve: no such key in model - did you mean objective"),
    "typo added": (["experiment=uosr", "+model.objectve=oe"], "model.objectve: no such key - did you mean objective"),
    "wrong type": (
        ["experiment=uosr", "trainer.max_epochs=ten"],
        "trainer.max_epochs: is 'ten', should be",
    ),
    "wrong choice": (["experiment=uosr", "model.objective=eo"], "should be one of ce, oe"),
    "target": (["experiment=uosr", "model._target_=os.system"], "'os.system' is not allowed"),
    "target of ours": (["experiment=uosr", "model._target_=lightning_modules.uosr.module.UOSS"], "there is no"),
    "not key=value": (["experiment=uosr", "seed"], "cannot read 'seed': write key=value"),
    "sweep without -m": (["experiment=uosr", "seed=1,2"], "add -m"),
    "mode": (["experiment=uosr", "mode=fti"], "no mode 'fti' - did you mean fit?"),
    "nothing chosen": (["model=uosr"], "no experiment chosen"),
    "no data": (["experiment=uosr_cifar100", "data.root=/nowhere", "hardware=cpu"], "cifar-100-python"),
    "no GPU": (["experiment=uosr", "hardware=gpu"], "no GPU"),
    "not divisible": (
        ["experiment=uosr", "hardware=ddp_cpu", "data.batch_size=127"],
        "cannot be divided over 2 processes",
    ),
    "negative seed": (["experiment=uosr", "seed=-1"], "seed: is -1, should be at least 0"),
    "no seed": (["experiment=uosr", "seed=null"], "seed: must be given"),
    "mode taken away": (["experiment=uosr", "~mode"], "mode: must be given"),
    "the harness's own": (["experiment=uosr", "+trainer.logger=false"], "trainer.logger: is set by the harness"),
    "hardware's own": (["experiment=uosr", "+trainer.devices=2"], "trainer.devices: is set by the hardware group"),
    "a list of devices": (["experiment=uosr", "hardware.devices=[0,1]"], "should be a whole number"),
    "no epochs": (["experiment=uosr", "trainer.max_epochs=0"], "nothing to test"),
    "refused by Lightning": ([*TINY, "callbacks.best.mode=maximum"], "callbacks.best"),
    "no devices": (
        ["experiment=uosr", "hardware.devices=0"],
        "hardware.devices: is 0, should be a whole number, at least 1",
    ),
    "batch too large": ([*TINY, "data.batch_size=1000000"], "lower data.batch_size"),
    "read-only place": (["experiment=uosr", "runs=/proc/quire"], "cannot write there"),
    "place is a file": (["experiment=uosr", f"runs={ROOT}/run.py"], "cannot write there"),
    "no backbone": ([*TINY, "model.backbone.name=no_such_net"], "no_such_net"),
    "untrained": (["experiment=uosr", "mode=test"], "no finished training to test"),
    "no checkpoint": (["experiment=uosr", "ckpt=/nowhere/a.ckpt"], "no such file"),
}


# These are refused in a new Python, as a user sees it: before Hydra begins, and after.
REAL = {"typo", "no seed", "refused by Lightning"}


@pytest.mark.parametrize("case", CASES)
def test_one_line_and_exit_code_2(case, tmp_path):
    words, expected = CASES[case]
    place = [] if any(word.startswith("runs=") for word in words) else [f"runs={tmp_path}"]
    answer = new_python if case in REAL else call
    done = answer(*words, *place, "logger=local")
    assert done.returncode == 2, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert expected in lines[0]
    assert not list(tmp_path.glob("*/*/result.json"))


def test_all_mistakes_at_once():
    done = call("experiment=uosr", "trainer.max_epoch=3", "seed=x", "model.objective=eo", "hardware=cup")
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 4, lines
    for word in ("max_epochs", "seed: is 'x'", "objective", "did you mean cpu"):
        assert word in done.stderr


def copy_of_the_project(place):
    for name in ("common", "conf", "harness", "lightning_modules", "datamodules", "metrics", "run.py"):
        source = ROOT / name
        shutil.copytree(source, place / name) if source.is_dir() else shutil.copy(source, place / name)
    return place


def append(path, text):
    path.write_text(path.read_text() + text)


def test_typos_in_yaml_files_are_told_together_with_their_files(tmp_path):
    project = copy_of_the_project(tmp_path)
    append(project / "conf/experiment/uosr.yaml", "\ntrainr: {max_epochs: 3}\n")
    model = project / "conf/model/uosr.yaml"
    model.write_text(model.read_text().replace("\nobjective:", "\nobjetive:"))
    command = [sys.executable, "run.py", "experiment=uosr"]
    done = subprocess.run(command, cwd=project, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "conf/experiment/uosr.yaml: trainr: no such key - did you mean trainer?" in done.stderr
    assert "conf/model/uosr.yaml: model.objetive: no such key - did you mean objective" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def trained(shared_run):
    return shared_run(*TINY).folder() / "checkpoints" / "best.ckpt"


@pytest.mark.parametrize("kind", ["truncated", "foreign", "pickle", "text", "another experiment"])
def test_bad_checkpoints(kind, trained, tmp_path):
    path = tmp_path / "a.ckpt"
    content = torch.load(trained, weights_only=True)
    expected = {"truncated": "not a whole checkpoint", "foreign": "not a checkpoint of Quire", "text": "not a whole"}
    if kind == "truncated":
        path.write_bytes(trained.read_bytes()[:-500])
    elif kind == "foreign":
        torch.save({"state_dict": content["state_dict"]}, path)
    elif kind == "pickle":
        torch.save({"quire": print}, path)
    elif kind == "text":
        path.write_text("weights")
    else:
        content["quire"]["experiment"] = "geod"
        torch.save(content, path)
    done = call(*TINY, f"ckpt={path}", f"runs={tmp_path / 'runs'}")
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stderr
    line = expected.get(kind, {"pickle": "plain tensors"}.get(kind, "of experiment 'geod'"))
    assert line in done.stderr
    assert not (tmp_path / "runs").exists()


def test_weights_of_another_network(trained, tmp_path):
    done = call(*TINY, f"ckpt={trained}", "model.backbone.name=resnet18", f"runs={tmp_path}")
    assert done.returncode == 2
    assert "does not fit this network" in done.stderr
