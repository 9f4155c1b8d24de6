"""The paper-scale experiments' tiny twins, from data in the exact distributed layout to the table."""

import pytest
import torch

from harness.config.compose import plain
from harness.config.load import load
from lightning_modules.linkgan.module import LinkGAN
from tests.cli.quire import only_folder, quire, read
from tests.datamodules.miniature_generative import WRITERS
from tests.linkgan.test_regions import tiny_segformer
from tests.tiers import full

DATA = {"ffhq256": "ffhq", "afhq": "ffhq", "church256": "lsun_church", "car": "lsun_church"}
# The true readers, losses and schedules; small networks and images for the CPU's sake.
NETWORKS = (
    "model.stylegan2.z_dim=16",
    "model.stylegan2.w_dim=32",
    "model.stylegan2.mapping_layers=2",
    "model.stylegan2.channel_base=256",
    "model.stylegan2.channel_max=8",
    "model.discriminator.channel_base=256",
    "model.discriminator.channel_max=8",
)
SMALL = (
    "debug=tiny",
    "data.batch_size=4",
    "data.image_size=32",
    "data.val_size=4",
    *NETWORKS,
    "model.evaluation.samples=8",
    "model.evaluation.validation_samples=8",
    "model.evaluation.batch_size=8",
    "model.evaluation.inception=null",
    "model.link.interval=2",
)
AXES = {"ffhq256": "eyes", "afhq": "eyes", "church256": "sky", "car": "car"}


@pytest.mark.parametrize("name", ["car", *full("ffhq256", "afhq", "church256")])
def test_the_tiny_twin_runs_from_files_to_table(name, tmp_path):
    root = WRITERS[DATA[name]](tmp_path / "data")
    words = [f"experiment=linkgan_{name}", *SMALL, f"model.links.{AXES[name]}.axes=[0,8]", f"data.root={root}"]
    # A start of stylegan2-ada-pytorch's names, as users export it.
    options = plain(load(words))["model"] | {"segmenter": None, "links": {}}
    module = LinkGAN(**{key: value for key, value in options.items() if key[0] != "_"})
    module.configure_model()
    parts = {
        "G_ema": module.networks.average.module,
        "G": module.networks.generator,
        "D": module.networks.discriminator,
    }
    torch.save({part: network.state_dict() for part, network in parts.items()}, tmp_path / "start.pt")
    words.append(f"model.init_from={tmp_path / 'start.pt'}")
    if name in {"church256", "car"}:
        words.append(f"model.segmenter.path={tiny_segformer(tmp_path / 'segformer')}")
    done = quire(*words, f"runs={tmp_path / 'runs'}")
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = read(only_folder(tmp_path / "runs", f"linkgan_{name}") / "result.json")["metrics"]
    assert metrics["test/psd_error_edited"] > 0
    assert metrics["test/edit_mse_outside"] >= 0


@pytest.mark.parametrize("name", DATA)
def test_the_papers_numbers_are_those_of_config_f(name):
    model = plain(load([f"experiment=linkgan_{name}"]))["model"]
    assert model["stylegan2"]["w_dim"] == 512
    assert model["link"]["interval"] == 8
    assert model["link"]["lambda_in"] == model["link"]["lambda_out"] == 15
    assert model["regularization"]["r1_gamma"] == 10
    assert model["ema"] == {"half_life": 10000, "ramp": None}
    assert len([link for link in model["links"].values() if link]) == 1
    assert model["flips"] == (name in {"ffhq256", "afhq"})
