"""The paper-scale experiments' tiny twins, from data in the exact distributed layout to the table."""

import numpy as np
import pytest
import timm
import torch

from tests.cli.quire import call, only_folder, quire, read
from tests.datamodules import miniature
from tests.uosr.test_backbones import google_arrays

# The true network and readers; small images and batches for the CPU's sake.
SMALL = ("debug=tiny", "data.batch_size=4", "data.image_size=64", "data.val_size=100", "data.outliers=true")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    place = tmp_path_factory.mktemp("data")
    miniature.everything(place)
    return place


def test_cifar100_from_scratch_with_outlier_exposure(root, tmp_path):
    words = ("experiment=uosr_cifar100", *SMALL, f"data.root={root}", f"runs={tmp_path}", "model.objective=oe")
    done = quire(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = only_folder(tmp_path, "uosr_cifar100")
    metrics = read(folder / "result.json")["metrics"]
    for ood in ("tiny_imagenet", "lsun"):
        assert f"test/{ood}/sirc_h_res/uosr" in metrics
        assert (folder / "scores" / ood / "odin.npz").exists()
    assert "test/tiny_imagenet/fs_knns_1shot/uosr" in metrics
    assert "test/lsun/fs_knns_1shot/uosr" not in metrics


@pytest.mark.full
def test_cifar100_from_googles_bit_weights(root, tmp_path):
    torch.manual_seed(1)
    net = timm.create_model("resnetv2_50x1_bit", num_classes=0)
    np.savez(root / "BiT-M-R50x1.npz", **google_arrays(net))
    # A rate that moves no number of float32.
    words = (*SMALL, f"data.root={root}", f"runs={tmp_path}", "model.optimizer.lr=1e-60")
    done = quire("experiment=uosr_cifar100_bit", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    best = only_folder(tmp_path, "uosr_cifar100_bit") / "checkpoints" / "best.ckpt"
    trained = torch.load(best, weights_only=True)["state_dict"]
    # So the weights that are tested are the very ones that were loaded.
    for key, value in net.state_dict().items():
        assert torch.equal(trained[f"network.backbone.{key}"], value), key


def test_missing_weights_are_one_line(root, tmp_path):
    words = (*SMALL, f"data.root={root}", f"runs={tmp_path}", "model.backbone.weights=/nowhere/BiT.npz")
    done = call("experiment=uosr_cifar100_bit", *words)
    assert done.returncode == 2
    assert "model.backbone.weights: no file /nowhere/BiT.npz" in done.stderr
    assert "Traceback" not in done.stderr
