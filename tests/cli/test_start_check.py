"""mode=check says ok if a run would start, and else everything that is in its way, at once and a line each."""

import pytest
import torch

from common.errors import UserError
from common.files import write_json
from harness.config.compose import options, plain
from harness.config.dependency_paths import dependency_folder
from harness.config.job import Job
from harness.config.load import load_checked
from harness.run.start import start_errors
from networks.label_features import LabelFeatures
from networks.small_conv_net import SmallConvNet
from tests.cli.quire import call
from tests.config.test_compose import RUN_HERE

NO_GPU = "hardware: torch sees no GPU"
# Keys of the files of weights that are not here.
WEIGHTS = {
    "uosr_cifar100": [],
    "uosr_cifar100_bit": ["model.backbone.weights: no file data/BiT-M-R50x1.npz"],
    "neural_dependency_imagenet": ["model.network.weights: no file weights/resnet50.safetensors"],
    "neural_dependency_logits": [],
    "dvdp_cifar10": ["model.evaluation.inception: no file data/pt_inception-2015-12-05-6726825d.pth"],
    "geod_shapenet_cars": [
        "model.pretrained.path: no depth model at weights/depth-anything-small",
        "model.evaluation.inception: no file weights/pt_inception-2015-12-05-6726825d.pth",
    ],
}
WEIGHTS |= {f"dvdp_{name}": WEIGHTS["dvdp_cifar10"] for name in ("ffhq256", "ffhq1024", "lsun_church256")}
WEIGHTS |= {
    f"geod_{name}": [
        "model.inverse_loss.vgg_weights: no file weights/vgg16-397923af.pth",
        "model.evaluation.inception: no file weights/pt_inception-2015-12-05-6726825d.pth",
    ]
    for name in ("ffhq256", "cats256", "pigan")
}
WEIGHTS |= {
    f"linkgan_{name}": [
        f"model.init_from: no file weights/stylegan2_{weights}.ckpt",
        "model.evaluation.inception: no file weights/pt_inception-2015-12-05-6726825d.pth",
    ]
    for name, weights in (("ffhq256", "ffhq256"), ("afhq", "afhq256"))
}
WEIGHTS |= {
    f"linkgan_{name}": ["model: model.segmenter.path: no segmentation model at weights/segformer-ade20k"]
    for name in ("church256", "car")
}
WEIGHTS |= {
    f"clip_fsar_{name}": ["model.towers.weights: no file weights/RN50.pt"]
    for name in ("hmdb51", "ucf101", "k100", "ssv2_full", "ssv2_small")
}
WEIGHTS |= {
    f"u_tuning_{name}": ["model.backbone.weights: no file data/ViT-B_16.npz"]
    for name in ("cifar100", "cub", "nabirds", "flowers", "dogs", "cars")
}


def job(runs, *words):
    """Return the job of a command line that asks for a check."""
    config = plain(load_checked([*words, "mode=check", f"runs={runs}"]))
    return Job(config, words[0].partition("=")[2], list(words))


@pytest.mark.parametrize("experiment", options("experiment"))
def test_ok_is_said_of_the_experiments_that_start_here_and_of_no_other(experiment, tmp_path):
    asked = job(tmp_path, f"experiment={experiment}")
    lines = start_errors(asked)
    assert (lines == []) == (experiment in RUN_HERE)
    assert all("\n" not in line for line in lines)
    if experiment not in RUN_HERE:
        expected = [NO_GPU] * (asked.config["hardware"]["accelerator"] == "gpu") + ["data: no "] + WEIGHTS[experiment]
        assert len(lines) == len(expected)
        assert all(line.startswith(begin) for line, begin in zip(lines, expected, strict=True))
    assert not list(tmp_path.iterdir())


def test_the_command_line_tells_hardware_data_and_weights_together(tmp_path):
    done = call("experiment=geod_ffhq256", "mode=check", f"runs={tmp_path}")
    assert done.returncode == 2
    assert [line.split(":")[1].strip() for line in done.stderr.strip().splitlines()] == [
        "hardware",
        "data",
        "model.inverse_loss.vgg_weights",
        "model.evaluation.inception",
    ]


def test_a_login_node_answers_for_a_job_in_a_queue(tmp_path):
    words = ["mode=check", "hydra/launcher=submitit_slurm", f"runs={tmp_path}"]
    done = call("experiment=uosr", "hardware=ddp", "hardware.devices=8", *words)
    assert done.returncode == 0, done.stderr
    assert "ok: uosr can run in its job (gpu, 8 x 1 processes)" in done.stdout
    done = call("experiment=dvdp_cifar10", *words)
    assert done.returncode == 2
    assert NO_GPU not in done.stderr
    assert "data: no cifar-10-batches-py" in done.stderr


def errors(tmp_path, *words):
    """Return the lines of the check of the config, or of what it takes to start."""
    try:
        asked = job(tmp_path, *words)
    except UserError as error:
        return error.lines
    return start_errors(asked)


# What is asked of data that they do not have, and files that are not there.
REFUSED = {
    "outliers": (
        ["experiment=uosr_oe", "data.outliers=false"],
        "shapes offers no outliers (model.objective=oe,energy,eb)",
    ),
    "energy": (
        ["experiment=uosr_oe", "data.outliers=false", "model.objective=energy"],
        "shapes offers no outliers (model.objective=oe,energy,eb)",
    ),
    "background": (
        ["experiment=uosr_oe", "data.outliers=false", "model.objective=eb"],
        "shapes offers no outliers (model.objective=oe,energy,eb)",
    ),
    "new categories": (
        ["experiment=neural_dependency_unseen", "data.num_new=0"],
        "model.source.num_classes is 128, but the data have 96 categories and 0 new ones (data.num_new)",
    ),
    "few categories": (
        ["experiment=neural_dependency", "model.analysis.min_subset=500"],
        "model.analysis.min_subset is 500, but there are 128 categories",
    ),
    "wordnet": (["experiment=neural_dependency", "model.wordnet=a.txt"], "model.wordnet: no a.txt; expected there"),
    "dependencies": (
        ["experiment=neural_dependency", "model.regularizer.kind=keep"],
        "model.regularizer.dependencies: name a run or a file",
    ),
    "checkpoint": (["experiment=uosr", "ckpt=/nowhere/a.ckpt"], "ckpt=/nowhere/a.ckpt: no such file"),
    "oracle": (["experiment=geod", "model.evaluation.oracle=a.ckpt"], "model.evaluation.oracle: no file a.ckpt"),
    "generator": (["experiment=geod", "model.generator_init=a.pt"], "model.generator_init: no file a.pt"),
    "discriminator": (["experiment=geod", "model.discriminator_init=a.pt"], "model.discriminator_init: no file a.pt"),
    "inverse renderer": (["experiment=geod", "model.ir_init=a.ckpt"], "model.ir_init: no file a.ckpt"),
    "of geod_ir": (["experiment=geod_ir", "model.ir_init=a.ckpt"], "model.ir_init: no file a.ckpt"),
    "vgg": (["experiment=geod_ir", "model.inverse_loss.perceptual=vgg16"], "model.inverse_loss.vgg_weights is null"),
    "features": (["experiment=dvdp", "model.evaluation.features=a.ckpt"], "model.evaluation.features: no file a.ckpt"),
    "a prompt": (["experiment=clip_fsar_pretrain", "model.prompt='a film of {}'"], "the mini-CLIP knows no 'film'"),
    "no weights": (["experiment=uosr", "model.backbone.weights=README.md"], "is no file of weights"),
    "strategy": (["experiment=uosr", "hardware.strategy=foo"], "trainer, hardware: You selected an invalid strategy"),
    "episodes": (["experiment=clip_fsar", "data.ways=10"], "10-way episodes need 10 classes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_run_needs_and_has_not_is_one_line(case, tmp_path):
    words, said = REFUSED[case]
    lines = errors(tmp_path, *words)
    assert len(lines) == 1, lines
    assert said in lines[0]
    assert "\n" not in lines[0]


def test_cameras_are_asked_for(tmp_path):
    words = ["data=picture_folder", "data.image_size=32", "model.poses.kind=labels"]
    (line,) = errors(tmp_path, "experiment=geod", *words)
    assert "data: picture_folder offers no cameras (model.poses.kind=labels or" in line


def test_weights_are_opened_and_compared(tmp_path):
    words = ["experiment=uosr", f"model.backbone.weights={tmp_path}/net.pt"]
    state = SmallConvNet(3, 32).state_dict()
    torch.save(state, tmp_path / "net.pt")
    assert start_errors(job(tmp_path / "runs", *words)) == []
    name = next(iter(state))
    torch.save(state | {name: torch.zeros(1, 2)}, tmp_path / "net.pt")
    (line,) = start_errors(job(tmp_path / "runs", *words))
    assert f"'{name}' is [1, 2], should be {list(state[name].shape)}" in line
    del state[name]
    torch.save(state, tmp_path / "net.pt")
    (line,) = start_errors(job(tmp_path / "runs", *words))
    assert f"it has no '{name}'" in line


def test_features_for_other_channels_are_refused(tmp_path):
    network, sizes = LabelFeatures(3, [3, 4], 16), {"in_channels": 3, "label_sizes": [3, 4], "width": 16}
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": state, "hyper_parameters": sizes}, tmp_path / "features.ckpt")
    (line,) = start_errors(job(tmp_path, "experiment=dvdp", f"model.evaluation.features={tmp_path}/features.ckpt"))
    assert line.startswith("model.evaluation.features:")
    assert "sees 3 channels, images have 1" in line


def test_runs_that_come_first_are_checked_with_their_data(tmp_path):
    first = "run:experiment=uosr_cifar100"
    lines = start_errors(job(tmp_path, "experiment=uosr", f"model.backbone.weights='{first}'"))
    assert len(lines) == 1
    assert lines[0].startswith(f"{first}: data: no cifar-100-python")


@pytest.mark.parametrize("content", ["nothing", "half a file"])
def test_a_finished_run_that_comes_first_has_its_checkpoint(content, tmp_path):
    asked = job(tmp_path, "experiment=uosr_pretrained")
    (first,) = {value for value in [asked.config["model"]["backbone"]["weights"], asked.config["ckpt"]] if value}
    folder = dependency_folder(first, asked.config)
    folder.checkpoints.mkdir(parents=True)
    write_json(folder.path / "status.json", {"status": "done"})
    if content == "half a file":
        (folder.checkpoints / "best.ckpt").write_bytes(b"PK\x03\x04 and no more")
    lines = start_errors(asked)
    assert any(line.startswith(f"{first}: ckpt={folder.checkpoints}") for line in lines)


def test_a_batch_that_lacks_what_a_step_reads_is_one_line(tmp_path, monkeypatch):
    def no_labels(self, size):
        return {"image": torch.zeros(size, *self.image_shape)}

    monkeypatch.setattr("datamodules.shapes_open_set.ShapesOpenSet.fake_batch", no_labels)
    assert start_errors(job(tmp_path, "experiment=uosr")) == [
        "data: UOSR reads 'label' of a batch, the data give image"
    ]
