"""The paper-scale experiments' tiny twins, from data in the exact distributed layout to the table."""

import pytest

from tests.cli.quire import call, checkpoint, only_folder, quire, read
from tests.datamodules.miniature_generative import WRITERS
from tests.tiers import full

DATA = {"ffhq256": "ffhq", "ffhq1024": "ffhq", "lsun_church256": "lsun_church", "cifar10": "cifar10"}
# The true readers, processes and levels; a small network and small images for the CPU's sake.
SMALL = (
    "debug=tiny",
    "data.batch_size=8",
    "data.image_size=32",
    "data.val_size=4",
    "model.network.channels=[32,32]",
    "model.network.layers=1",
    "model.network.norm_num_groups=8",
    "model.network.head_channels=16",
    "model.evaluation.samples=4",
    "model.evaluation.steps=6",
    "model.evaluation.inception=null",
    "model.sampler.steps=6",
    "model.sampler.preview_images=2",
    "model.compile=false",
)


@pytest.mark.parametrize("name", ["cifar10", *full("ffhq256", "ffhq1024", "lsun_church256")])
def test_the_tiny_twin_runs_from_files_to_table(name, tmp_path):
    root = WRITERS[DATA[name]](tmp_path / "data")
    done = quire(f"experiment=dvdp_{name}", *SMALL, f"data.root={root}", f"runs={tmp_path / 'runs'}")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = only_folder(tmp_path / "runs", f"dvdp_{name}")
    metrics = read(folder / "result.json")["metrics"]
    assert metrics["test/psd_error"] > 0
    trained = checkpoint(folder, "best.ckpt")["state_dict"]
    assert len(trained["deviations"]) == {"ffhq1024": 5, "cifar10": 2}.get(name, 3)
    # Images of a greater level are of greater amplitude (§2.1).
    assert trained["deviations"].diff().min() > -0.05


def test_a_missing_inception_is_told_before_training(tmp_path):
    root = WRITERS["cifar10"](tmp_path / "data")
    words = [word for word in SMALL if "inception" not in word]
    done = call("experiment=dvdp_cifar10", *words, f"data.root={root}", f"runs={tmp_path / 'runs'}")
    assert done.returncode == 2
    assert "evaluation.inception: no file data/pt_inception" in done.stderr
    assert not list((tmp_path / "runs").rglob("*.ckpt"))
