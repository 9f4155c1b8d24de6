"""Images are normalized as the module's backbone was trained, unless the config says how."""

from types import SimpleNamespace

import pytest
import torch
from timm.models import get_pretrained_cfg

from common.pixel_statistics import IMAGENET_MEAN, IMAGENET_STD
from datamodules.cifar100 import Cifar100
from datamodules.glyphs import Glyphs
from datamodules.shapes_open_set import ShapesOpenSet
from networks.backbones import normalization

OWN = ("small",)
TORCHVISION = "resnet18.tv_in1k"


def transferred(data, batch, module):
    data.trainer = SimpleNamespace(lightning_module=module)
    return data.on_after_batch_transfer(batch, 0)


def test_what_backbones_were_trained_with():
    assert normalization("small", OWN) is None
    assert normalization("vit_base_patch16_224.orig_in21k", OWN) == ((0.5,) * 3, (0.5,) * 3)
    assert normalization(TORCHVISION, OWN) == (IMAGENET_MEAN, IMAGENET_STD)
    assert normalization("open_clip:ViT-B-16-quickgelu", OWN)[0] == pytest.approx((0.4815, 0.4578, 0.4082), abs=1e-4)
    assert normalization("open_clip:ViT-B-16-SigLIP", OWN) == ((0.5,) * 3, (0.5,) * 3)
    # A model that timm has no published weights of.
    assert get_pretrained_cfg("resnetv2_50x1_bit").mean == (0.5, 0.5, 0.5)
    assert normalization("resnetv2_50x1_bit", OWN) == ((0.5,) * 3, (0.5,) * 3)


def test_images_and_outliers_follow_the_backbone_and_own_nets_take_what_they_took():
    data, names = ShapesOpenSet(batch_size=4, outliers=True), ("image", "outlier")
    batch = next(iter(data.train_dataloader()))
    plain = transferred(data, batch, SimpleNamespace(normalization=None))
    assert all(plain[name] is batch[name] for name in batch)
    assert transferred(data, batch, SimpleNamespace(normalization=((0.5,) * 3, (0.5,) * 3))) is batch
    found = transferred(data, batch, SimpleNamespace(normalization=(IMAGENET_MEAN, IMAGENET_STD)))
    mean, std = torch.tensor(IMAGENET_MEAN)[:, None, None], torch.tensor(IMAGENET_STD)[:, None, None]
    for name in names:
        assert torch.allclose(found[name], ((batch[name] + 1) / 2 - mean) / std, atol=1e-5)
    assert torch.equal(found["label"], batch["label"])


def test_gray_images_have_the_mean_over_the_colors():
    data = Glyphs(batch_size=4, train_size=64)
    batch = next(iter(data.train_dataloader()))
    found = transferred(data, batch, SimpleNamespace(normalization=(IMAGENET_MEAN, IMAGENET_STD)))["image"]
    mean, std = sum(IMAGENET_MEAN) / 3, sum(IMAGENET_STD) / 3
    assert found.shape == batch["image"].shape
    assert torch.allclose(found, ((batch["image"] + 1) / 2 - mean) / std, atol=1e-5)


def test_explicit_values_win():
    data = Cifar100(mean=[0.0] * 3, std=[1.0] * 3)
    image = torch.tensor([-1.0, 0.0, 1.0]).view(1, 3, 1, 1)
    found = transferred(data, {"image": image}, SimpleNamespace(normalization=(IMAGENET_MEAN, IMAGENET_STD)))["image"]
    assert found.flatten().tolist() == pytest.approx([0.0, 0.5, 1.0])
