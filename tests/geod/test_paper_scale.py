"""The paper-scale experiments' tiny twins, from data in the exact distributed layout to the table."""

from types import SimpleNamespace

import pytest
import torch
from torchvision.models import vgg16
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

from harness.config.load import load
from lightning_modules.geod.inverse.depth_model import PretrainedGeometry, PretrainedOptions
from tests.cli.quire import call, checkpoint, only_folder, quire, read
from tests.datamodules.miniature_eg3d import files, write
from tests.datamodules.miniature_generative import WRITERS
from tests.geod.build import images
from tests.tiers import full

# The true readers of data, networks and schedules; small networks for the CPU's sake.
SMALL = (
    "debug=tiny",
    "data.batch_size=2",
    "data.val_size=4",
    "trainer.limit_train_batches=2",
    "trainer.max_epochs=1",
    "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=2",
    "model.discriminator.channel_base=512",
    "model.discriminator.channel_max=8",
    "model.evaluation.inception=null",
    "model.evaluation.validation_samples=2",
    "model.evaluation.images_per_pose=2",
    "model.guidance.start_kimg=0",
    "model.guidance.end_kimg=0",
)
EG3D = (
    "data.image_size=128",
    "model.triplane.channel_base=512",
    "model.triplane.channel_max=8",
    "model.triplane.z_dim=16",
    "model.triplane.w_dim=16",
    "model.triplane.plane_size=32",
    "model.triplane.neural_resolution=16",
    "model.triplane.rays.depth_samples=6",
    "model.triplane.rays.importance_samples=6",
)
PIGAN = ("data.image_size=32", "model.pigan.width=16", "model.pigan.layers=2", "model.pigan.z_dim=8")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    torch.save(vgg16(weights=None).state_dict(), folder / "vgg16.pth")
    backbone = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        out_features=["stage1", "stage2"],
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        reassemble_factors=[2, 1],
        neck_hidden_sizes=[8, 8],
        fusion_hidden_size=8,
        head_hidden_size=4,
        patch_size=14,
    )
    DepthAnythingForDepthEstimation(config).save_pretrained(folder / "depth")
    return folder


@pytest.mark.parametrize(("name", "kind"), [("cats256", ""), *full(("ffhq256", ".zip"), ("shapenet_cars", ".zip"))])
def test_the_tiny_twin_runs_from_files_to_table(name, kind, weights, tmp_path):
    root = write(tmp_path / f"data{kind}", files())
    words = [*SMALL, *EG3D, f"data.root={root}", f"runs={tmp_path / 'runs'}"]
    if name == "shapenet_cars":
        words += [f"model.pretrained.path={weights / 'depth'}", "model.pretrained.size=28"]
    else:
        words += ["model.inverse_renderer.width=8", "model.inverse_renderer.code_dim=16"]
        words += [f"model.inverse_loss.vgg_weights={weights / 'vgg16.pth'}"]
    done = quire(f"experiment=geod_{name}", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = only_folder(tmp_path / "runs", f"geod_{name}")
    metrics = read(folder / "result.json")["metrics"]
    assert metrics["test/images_seen"] == 4
    assert {"test/reprojection", "test/psd_error"} <= metrics.keys()
    trained = checkpoint(folder, "best.ckpt")["state_dict"]
    # Poses are those of the training images.
    assert trained["label_cameras"].shape == (8192, 25)
    assert len(trained["label_cameras"].unique(dim=0)) > 10
    assert ("inverse_renderer.netD.network.0.weight" in trained) == (name != "shapenet_cars")
    assert not any("network.backbone" in key for key in trained)
    drawn = quire("mode=sample", f"run={folder}", "n=2", "seed=1")
    assert drawn.returncode == 0, drawn.stderr


@pytest.mark.full
def test_pi_gan_runs_on_pictures_without_cameras(weights, tmp_path):
    root = WRITERS["ffhq"](tmp_path / "data")
    words = (*SMALL, *PIGAN, f"data.root={root}", f"model.inverse_loss.vgg_weights={weights / 'vgg16.pth'}")
    small = ("model.inverse_renderer.size=32", "model.inverse_renderer.width=8", "model.inverse_renderer.code_dim=16")
    done = quire("experiment=geod_pigan", *words, *small, f"runs={tmp_path / 'runs'}")
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = read(only_folder(tmp_path / "runs", "geod_pigan") / "result.json")["metrics"]
    assert metrics["test/reprojection"] > 0
    wrong = call("experiment=geod_pigan", *words, *small, "model.poses.kind=labels", f"runs={tmp_path / 'other'}")
    assert wrong.returncode == 2
    assert "poses.kind is labels, but the data have no cameras" in wrong.stderr


@pytest.mark.parametrize("name", ["ffhq256", "cats256", "shapenet_cars", "pigan"])
def test_what_kid_needs_is_generated(name):
    config = load([f"experiment=geod_{name}"]).model.evaluation
    assert config.inception
    assert config.samples >= config.kid_subset


def test_missing_weights_are_told_before_training(tmp_path):
    root = write(tmp_path / "data.zip", files())
    done = call("experiment=geod_ffhq256", *SMALL, *EG3D, f"data.root={root}", f"runs={tmp_path / 'runs'}")
    assert done.returncode == 2
    assert "vgg_weights: no file weights/vgg16-397923af.pth" in done.stderr
    assert not list((tmp_path / "runs").rglob("*.ckpt"))


@pytest.mark.parametrize("says", ["depth", "disparity"])
def test_a_depth_model_has_the_interface_of_the_inverse_renderer(says, weights):
    options = PretrainedOptions(
        path=str(weights / "depth"), output=says, min_depth=2.25, max_depth=3.3, size=28, fov=18.837
    )
    geometry, image = PretrainedGeometry(options, 32), images(2).requires_grad_()
    assert not any(p.requires_grad for p in geometry.parameters())
    assert geometry.predict_shape(image).depth.shape == (2, 32, 32)
    # A network that learned nothing says the same everywhere; one that says the brightness shows what is made of it.
    del geometry.network
    geometry.network = lambda seen: SimpleNamespace(predicted_depth=seen.mean(dim=1))
    shape = geometry.predict_shape(image)
    assert shape.depth.amin(dim=(1, 2)).tolist() == pytest.approx([2.25] * 2, abs=1e-4)
    assert shape.depth.amax(dim=(1, 2)).tolist() == pytest.approx([3.3] * 2, abs=1e-4)
    shape.normals[..., 0].sum().backward()
    assert image.grad.abs().sum() > 0
    # Of a disparity the largest is the nearest, of a depth the farthest.
    bright, far = image[0].mean(dim=0) > image[0].mean(), shape.depth[0] > shape.depth[0].mean()
    agree = (bright == far).float().mean()
    assert agree > 0.8 if says == "depth" else agree < 0.2
