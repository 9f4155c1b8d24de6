"""Trained parameters of ViT-B/16, head excluded (§2.7), by conf/tuner, without data."""

from pathlib import Path

import pytest
import timm
import torch
from omegaconf import OmegaConf

from common.targets import build_target
from tuners.sidetune import SideTune

COUNTS = {
    "linear": 0,
    "bitfit": 102_912,
    "vpt_shallow": 7_680,
    "vpt_deep": 92_160,
    "prefix": 184_320,
    "lora": 368_640,
    "ssf": 205_824,
    "adaptformer": 1_189_632,
    "full": 85_798_656,
    # 3x16, 16x16, 16x32 and 32x64 kernels of 3x3, their norms, 64 x 768 + 768, alpha.
    "sidetune": 9 * (48 + 256 + 512 + 2048) + 2 * 128 + 65 * 768 + 1,
}
CONF = Path(__file__).parents[2] / "conf" / "tuner"


@pytest.mark.parametrize("name", COUNTS)
def test_count_on_vit_b(name):
    tuner = build_target(OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml")), "tuner")
    with torch.device("meta"):
        backbone = timm.create_model("vit_base_patch16_224", num_classes=0)
        tuner.attach(backbone, torch.empty(1, 3, 224, 224))
        output = backbone(torch.empty(2, 3, 224, 224))
    assert tuner.num_trainable() == COUNTS[name]
    assert output.shape == (2, 768)
    assert all(parameter.is_meta for parameter in tuner.trainable_parameters())


def test_lr_of_full_is_below_the_others():
    rates = {name: OmegaConf.load(CONF / f"{name}.yaml").lr for name in COUNTS}
    assert rates.pop("full") == 1e-3
    assert set(rates.values()) == {1e-2}


def test_the_head_inside_a_backbone_counts_as_backbone():
    with torch.device("meta"):
        backbone = timm.create_model("vit_base_patch16_224", num_classes=100)
        tuner = build_target({"_target_": "tuners.full.Full", "lr": 1e-3}, "tuner").attach(
            backbone, torch.empty(1, 3, 224, 224)
        )
    assert tuner.num_trainable() - COUNTS["full"] == 76_900


def test_sidetune_on_grey_images_has_a_smaller_first_kernel():
    backbone = timm.models.VisionTransformer(16, 4, in_chans=1, embed_dim=8, depth=1, num_heads=2, num_classes=0)
    tuner = SideTune(lr=1e-2).attach(backbone, torch.zeros(1, 1, 16, 16))
    assert tuner.num_trainable() == 9 * (16 + 256 + 512 + 2048) + 2 * 128 + 65 * 8 + 1
