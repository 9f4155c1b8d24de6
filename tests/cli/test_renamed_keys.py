"""Names of keys that have changed: first names are reported, and folders that have them stay what they are."""

import shutil

import pytest
import torch

from common.files import write_json
from common.renamed_keys import first_experiment_name, with_first_names
from harness.config.compose import composed
from harness.config.identity import run_folder
from harness.config.lock_reader import read_lock
from harness.core.run_folder import RunFolder
from harness.run.finished import compare_files
from lightning_modules.dvdp.module import DVDP
from tests.cli.quire import assert_same_run, call, checkpoint, only_folder, quire, read

SMALL = (
    "experiment=dvdp",
    "debug=tiny",
    "data.image_size=32",
    "model.evaluation.samples=8",
    "model.evaluation.steps=3",
    "model.evaluation.curve_steps=[]",
    "model.sampler.steps=3",
    "model.sampler.preview_images=0",
    "model.evaluation.features=null",
    "callbacks.resume.every_seconds=0",
)
RENAMED = {
    "a section": (
        ["experiment=geod", "model.regularisation.r1_gamma=2"],
        "command line: model.regularisation.r1_gamma is renamed to model.regularization.r1_gamma",
    ),
    "below a section": (
        ["experiment=geod", "model.triplane.rays.near=2"],
        "command line: model.triplane.rays.near is renamed to model.triplane.rays.ray_start",
    ),
    "added": (
        ["experiment=geod", "+model.triplane.box=2"],
        "command line: model.triplane.box is renamed to model.triplane.box_warp",
    ),
    "both": (
        ["experiment=neural_dependency", "model.reading.terms=2"],
        "command line: model.reading.terms is renamed to model.analysis.num_nonzero",
    ),
    "of a tuner": (
        ["experiment=u_tuning", "tuner=lora", "tuner.target=[qkv]"],
        "command line: tuner.target is renamed to tuner.target_modules",
    ),
    "of a callback": (
        ["experiment=uosr", "callbacks.finite.go_on=true"],
        "command line: callbacks.finite.go_on is renamed to callbacks.finite.allow_nonfinite",
    ),
    "swept": (
        ["-m", "experiment=uosr", "data.grade=true,false"],
        "command line: data.grade is renamed to data.near_far_splits",
    ),
    "of an experiment": (["experiment=uosr", "+about=x"], "command line: about is renamed to description"),
    "an experiment": (
        ["experiment=neural_dependency_regulariser"],
        "command line: experiment=neural_dependency_regulariser is renamed to experiment=neural_dependency_regularizer",
    ),
    "in a reference": (
        ["experiment=u_tuning", "model.backbone.weights='run:experiment=uosr model.vos.draws=1'"],
        "run:experiment=uosr model.vos.draws=1: model.vos.draws is renamed to model.vos.num_candidates",
    ),
    "of a claim": (
        ["claim=neural_dependency", "model.regulariser.kind=cut"],
        "command line: model.regulariser.kind is renamed to model.regularizer.kind",
    ),
}


@pytest.mark.parametrize("case", RENAMED)
def test_a_first_name_is_one_line_with_the_present_one(case, tmp_path):
    overrides, line = RENAMED[case]
    done = call(*overrides, f"runs={tmp_path}")
    assert done.returncode == 2
    assert done.stderr.strip() == f"error: {line}"
    assert not list(tmp_path.iterdir())


def test_first_names_in_a_file_of_the_users(tmp_path):
    file = tmp_path / "experiment/mine.yaml"
    file.parent.mkdir()
    text = "defaults: [geod]\nabout: mine\nmodel: {regularisation: {r1_gamma: 2}, guidance: {least_weight: 0.5}}\n"
    file.write_text(f"# @package _global_\n{text}")
    done = call(f"hydra.searchpath=[file://{tmp_path}]", "experiment=mine")
    assert done.returncode == 2
    assert sorted(line.partition(": ")[2].partition(": ")[2] for line in done.stderr.splitlines()) == [
        "about is renamed to description",
        "model.guidance.least_weight is renamed to model.guidance.min_opacity",
        "model.regularisation is renamed to model.regularization",
    ]


def with_names_of_then(folder):
    """Rewrite lock and checkpoints of a run as they were first written: first names, parameter groups without any."""
    lock = read(folder / "lock.json")
    write_json(folder / "lock.json", lock | {"config": with_first_names(lock["config"])})
    for path in (folder / "checkpoints").glob("*.ckpt"):
        content, mark = checkpoint(folder, path.name), checkpoint(folder, path.name)["quire"]
        content["quire"] = mark | {"experiment": first_experiment_name(mark["experiment"])}
        content["hyper_parameters"] = with_first_names(content["hyper_parameters"], mark["target"])
        for state in content["optimizer_states"]:
            for group in state["param_groups"]:
                del group["name"]
        torch.save(content, path)
    assert read(folder / "lock.json")["config"]["model"]["process"].keys() >= {"steps", "beta_first", "beta_last"}
    assert checkpoint(folder)["hyper_parameters"]["sampler"].keys() == {"method", "clip", "steps", "sheet"}


@pytest.fixture(scope="module")
def straight(shared_run):
    return shared_run(*SMALL)


@pytest.fixture
def old(straight, tmp_path):
    """The folder of a finished run with first names."""
    straight.copy(tmp_path)
    folder = only_folder(tmp_path, "dvdp")
    with_names_of_then(folder)
    return folder


def test_a_finished_run_is_found_and_its_result_shown(old, tmp_path):
    done = call(*SMALL, f"runs={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{old}: finished before, not repeated" in done.stdout
    assert call("mode=report", f"runs={old}").returncode == 0


def test_an_unfinished_run_goes_on_and_ends_as_the_straight_one(old, straight, tmp_path):
    (old / "result.json").unlink()
    (old / "checkpoints/last.ckpt").unlink()
    write_json(old / "status.json", {"status": "preempted"})
    done = quire(*SMALL, f"runs={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "goes on from its last resume point" in done.stdout
    assert_same_run(only_folder(tmp_path, "dvdp"), straight.folder("dvdp"))


def test_its_checkpoint_loads_from_the_path_alone(old, straight):
    loaded = DVDP.load_from_checkpoint(old / "checkpoints/best.ckpt", weights_only=True)
    expected = checkpoint(straight.folder("dvdp"), "best.ckpt")
    assert dict(loaded.hparams) == expected["hyper_parameters"]
    assert all(torch.equal(value, expected["state_dict"][name]) for name, value in loaded.state_dict().items())
    changed = DVDP.load_from_checkpoint(old / "checkpoints/best.ckpt", weights_only=True, seed=7)
    assert changed.options["seed"] == 7


def test_it_is_sampled_tested_and_taken_as_weights(old, tmp_path):
    done = quire("mode=sample", f"run={old}", "n=2", "steps=3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (old / "samples/count-2_seed-0_steps-3/00001.png").is_file()
    other = ("seed=1", "trainer.max_epochs=1", f"runs={tmp_path}")
    done = quire(*SMALL, *other, f"ckpt='run:{' '.join(word for word in SMALL if word != 'debug=tiny')}'")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "first: " not in done.stdout


def test_weights_that_changed_are_refused_under_either_name(tmp_path):
    config = composed(["experiment=neural_dependency_regularizer", f"runs={tmp_path}"]).values
    kept = tmp_path / "kept.npz"
    kept.write_bytes(b"now")
    config = config | {"model": config["model"] | {"regularizer": {"dependencies": str(kept)}}}
    lock = {"config": with_first_names(config), "files": {"model.regulariser.dependencies": "then"}}
    write_json(tmp_path / "lock.json", lock)
    assert read_lock(tmp_path)["files"] == {"model.regularizer.dependencies": "then"}
    with pytest.raises(Exception, match=r"model\.regularizer\.dependencies: holds something else"):
        compare_files(RunFolder(tmp_path), config)


def test_the_folder_of_a_renamed_experiment_is_found(tmp_path):
    name = "neural_dependency_regularizer"
    config = composed([f"experiment={name}", f"runs={tmp_path}"]).values
    folder = run_folder(config, name, [f"experiment={name}"])
    assert folder.parent.name == name
    first = tmp_path / "neural_dependency_regulariser" / folder.name
    first.mkdir(parents=True)
    assert run_folder(config, name, [f"experiment={name}"]) == first
    shutil.copytree(first, folder)
    assert run_folder(config, name, [f"experiment={name}"]) == folder


def test_references_in_a_lock_get_present_names(tmp_path):
    first = "run:experiment=clip_fsar_pretrain model.mini.size=32 model.mini.context=9"
    config = {"seed": 0, "model": {"towers": {"weights": first}}}
    write_json(tmp_path / "lock.json", {"config": config, "overrides": ["experiment=clip_fsar", "model.mini.size=32"]})
    lock = read_lock(tmp_path)
    present = "run:experiment=clip_fsar_pretrain model.mini.embed_dim=32 model.mini.context_length=9"
    assert lock["config"]["model"]["towers"]["weights"] == present
    assert lock["overrides"] == ["experiment=clip_fsar", "model.mini.embed_dim=32"]
