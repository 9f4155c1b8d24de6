"""Regions, axes and segmenters: what they are of, and what is refused."""

import pytest
import torch
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from common.errors import UserError
from lightning_modules.linkgan.axes import axes_mask, axes_of
from lightning_modules.linkgan.regions import NAMED_REGIONS, box_of
from lightning_modules.linkgan.segmenter_module import SegmenterTraining
from lightning_modules.linkgan.segmenters import build_segmenter
from tests.linkgan.build import SIDE, module_of


def test_boxes_are_fractions_pixels_or_names():
    assert box_of([0.25, 0.1875, 0.5, 0.8125], 16, "key") == (4, 3, 8, 13)
    assert box_of([4, 3, 8, 13], 16, "key") == (4, 3, 8, 13)
    assert box_of("right_half", 16, "key") == (0, 8, 16, 16)
    # FFHQ's boxes are given by row and column of the center, at 256 pixels.
    assert box_of("left_eye", 256, "key") == (110, 76, 130, 114)
    assert box_of("mouth", 256, "key") == (169, 92, 199, 162)
    assert box_of("mouth", 512, "key") == (338, 184, 398, 324)
    quadrants = [box_of(name, 16, "key") for name in ("top_left", "top_right", "bottom_left", "bottom_right")]
    assert sum((bottom - top) * (right - left) for top, left, bottom, right in quadrants) == 256
    assert all(box_of(name, 16, "key") for name in NAMED_REGIONS)


def test_axes_are_fractions_or_numbers():
    assert axes_of([0.0, 0.25], 32, "key") == slice(0, 8)
    assert axes_of([0.0, 0.25], 512, "key") == slice(0, 128)
    assert axes_of([64, 128], 512, "key") == slice(64, 128)
    assert axes_of([0, 1], 32, "key") == slice(0, 1)
    assert axes_mask(slice(0, 2), 8, shift=3).nonzero().flatten().tolist() == [3, 4]


@pytest.mark.parametrize(
    ("region", "words"),
    [
        ("left_eie", "no region 'left_eie' - did you mean left_eye"),
        ([0.5, 0.5, 0.5, 0.9], "no pixel of images of 16 x 16"),
        ([0.5, 0.5, 0.51, 0.9], "no pixel"),
        ([0, 0, 17, 3], "within 0 to 16"),
        ([-0.1, 0.0, 0.5, 0.5], "within 0 to 1"),
        ([0.1, 0.5], "top, left, bottom and right"),
        ({"classes": ["eye"]}, "needs a segmenter"),
    ],
)
def test_regions_that_are_not_there_are_refused(region, words):
    with pytest.raises(UserError, match=r"model\.links\.eyes\.region") as refused:
        module_of(links={"eyes": {"region": region}})
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("links", "words"),
    [
        ({"eyes": {"axes": [0.0, 1.5]}}, "within 0 to 1"),
        ({"eyes": {"axes": [0, 17]}}, r"within 0 to 16 \(16 axes\)"),
        ({"eyes": {"axes": [4, 4]}}, "none of 16 axes"),
        ({"eyes": {"axes": [0.0, 0.01]}}, "none of 16 axes"),
        ({"eyes": {"axes": [0.0, 1.0]}}, "all 16 axes"),
        ({"eyes": {"axes": [0.5]}}, "the first axis and the one after the last"),
        ({"mouth": {"axes": [3, 6], "region": "mouth"}}, "eyes has axes 0 to 3, mouth has 3 to 5"),
    ],
)
def test_axes_that_overlap_or_are_out_of_range_are_refused(links, words):
    with pytest.raises(UserError, match=words):
        module_of(links=links)


SMALL_SEGMENTER = {"kind": "small", "path": "none.ckpt", "classes": ["background", "left_eye"], "size": 16}


def test_a_class_that_the_segmenter_lacks_is_refused():
    with pytest.raises(UserError, match="no class 'left_eie' - did you mean left_eye"):
        module_of(segmenter=SMALL_SEGMENTER, links={"eyes": {"region": {"classes": ["left_eie"]}}})
    with pytest.raises(UserError, match="is empty"):
        module_of(segmenter=SMALL_SEGMENTER, links={"eyes": {"region": {"classes": []}}})


def test_a_class_of_one_side_is_refused_where_images_are_mirrored_and_a_box_is_not():
    sided = {"eyes": {"region": {"classes": ["left_eye"]}}}
    with pytest.raises(UserError, match=r"class 'left_eye' has a side, and data\.flip mirrors images"):
        module_of(flips=True, segmenter=SMALL_SEGMENTER, links=sided)
    module_of(flips=False, segmenter=SMALL_SEGMENTER, links=sided)
    module_of(flips=True, links={"eyes": {"region": "left_eye"}})


def segmenter_checkpoint(path, classes=("background", "eye")):
    torch.manual_seed(0)
    module = SegmenterTraining(
        in_channels=3,
        classes=list(classes),
        width=8,
        max_noise_std=0.0,
        optimizer={},
        schedule={"warmup_ratio": 0.0},
        seed=0,
    )
    module.configure_model()
    with torch.no_grad():
        # No class everywhere, though nothing was learned.
        module.network.body[-1].bias.sub_(module.network(torch.randn(8, 3, SIDE, SIDE)).mean(dim=(0, 2, 3)))
    torch.save({"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}, path)
    return module.network


def test_a_small_segmenter_is_frozen_and_part_of_no_checkpoint(tmp_path):
    network = segmenter_checkpoint(tmp_path / "one.ckpt")
    options = SMALL_SEGMENTER | {"path": str(tmp_path / "one.ckpt"), "classes": ["background", "eye"]}
    module = module_of(segmenter=options, links={"eyes": {"region": {"classes": ["eye"]}}})
    images = torch.randn(3, 3, SIDE, SIDE, requires_grad=True).clamp(-1, 1)
    mask = module.networks.mask_of("eyes", images)
    assert torch.equal(mask[:, 0], network(images).argmax(dim=1) == 1)
    assert not mask.requires_grad
    assert 0 < mask.float().mean() < 1
    module.train()
    assert not module.networks.segmenter.training
    assert not any(p.requires_grad for p in module.networks.segmenter.parameters())
    assert not [name for name in module.state_dict() if "segment" in name or "body" in name]


def test_another_segmenter_than_the_config_says_is_refused(tmp_path):
    segmenter_checkpoint(tmp_path / "one.ckpt", ["background", "mouth"])
    options = SMALL_SEGMENTER | {"path": str(tmp_path / "one.ckpt"), "classes": ["background", "eye"]}
    with pytest.raises(UserError, match=r"knows background, mouth .*should know background, eye"):
        build_segmenter(options, 3)
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="not a checkpoint of a small segmenter"):
        build_segmenter(options | {"path": str(tmp_path / "other.pt")}, 3)
    with pytest.raises(UserError, match="no segmentation model at"):
        build_segmenter(options | {"kind": "transformers", "path": str(tmp_path)}, 3)


def tiny_segformer(folder):
    torch.manual_seed(0)
    config = SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 16],
        patch_sizes=[3, 3],
        strides=[2, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[1, 1],
        decoder_hidden_size=8,
        id2label={0: "wall", 1: "sky", 2: "car"},
    )
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    return folder


def test_a_model_of_transformers_names_its_classes_itself(tmp_path):
    folder = tiny_segformer(tmp_path / "segformer")
    options = {"kind": "transformers", "path": str(folder), "classes": None, "size": 32}
    segmenter = build_segmenter(options, 3)
    assert segmenter.classes == ["wall", "sky", "car"]
    images = torch.randn(2, 3, SIDE, SIDE)
    masks = [segmenter.mask(images, [name]) for name in segmenter.classes]
    assert torch.equal(sum(mask.int() for mask in masks), torch.ones(2, 1, SIDE, SIDE, dtype=torch.int32))
    assert torch.equal(segmenter.mask(images, ["sky", "car"]), masks[1] | masks[2])
    with pytest.raises(UserError, match="no class 'ski' - did you mean sky"):
        module_of(segmenter=options, links={"eyes": {"region": {"classes": ["ski"]}}})
    module = module_of(segmenter=options, links={"eyes": {"region": {"classes": ["sky"]}}})
    assert torch.equal(module.networks.mask_of("eyes", images), masks[1])
