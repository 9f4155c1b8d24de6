"""Backbones by name, and weights in the layouts in which they are distributed."""

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import StdConv2d
from timm.models.resnetv2 import ResNetV2
from torch import nn

from common.errors import UserError
from lightning_modules.uosr.backbones import build_backbone, middle_block
from lightning_modules.uosr.network import Network
from networks.backbones import feature_size, load_weights
from tests.uosr.build import built


@pytest.mark.parametrize(("channels", "size"), [(3, 16), (1, 8), (3, 32)])
def test_the_small_net_ends_at_256_features(channels, size):
    net = build_backbone("small", channels, size).eval()
    middle = []
    net.block3.register_forward_hook(lambda _m, _i, out: middle.append(out.shape))
    assert net(torch.zeros(2, channels, size, size)).shape == (2, 256)
    assert middle == [(2, 64, 2, 2)]
    assert feature_size(net) == 256


@pytest.mark.parametrize("size", [4, 12])
def test_the_small_net_says_which_sizes_it_takes(size):
    with pytest.raises(UserError, match=f"multiple of 8, not {size}"):
        build_backbone("small", 3, size)


def test_a_timm_backbone_by_name():
    net = build_backbone("test_convnext", 3, 32)
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, feature_size(net))


def test_a_backbone_without_named_blocks_has_no_middle():
    with pytest.raises(UserError, match="Linear does not name its blocks"):
        middle_block(nn.Linear(2, 2))


def test_an_unknown_name_gets_near_ones():
    with pytest.raises(UserError, match="resnetv2_"):
        build_backbone("resnetv2_50x1_bitt", 3, 32)


def test_bit_is_the_papers_network():
    options = {"name": "resnetv2_50x1_bit", "weights": None, "zero_head": True}
    with torch.device("meta"):
        network = Network(options, 100, 3, 128)
    assert network.head.in_features == 2048
    assert middle_block(network.backbone) is network.backbone.stages[1]
    assert any(isinstance(module, torch.nn.GroupNorm) for module in network.backbone.modules())


def test_a_zero_head_starts_at_zero():
    network = built(backbone={"zero_head": True}).network
    assert not network.head.weight.any()
    assert not network.head.bias.any()
    assert built().network.head.weight.any()


@pytest.mark.parametrize("name", ["small", "test_convnext", "test_resnet"])
def test_mixing_happens_in_the_middle_and_leaves_no_trace(name):
    torch.manual_seed(0)
    network = Network({"name": name, "weights": None, "zero_head": False}, 3, 3, 32).eval()
    images = torch.randn(4, 3, 32, 32)
    before = network(images).logits
    assert torch.equal(network.mixed(images, lambda hidden: hidden).logits, before)
    swapped = network.mixed(images, lambda hidden: hidden.flip(0)).logits
    assert torch.allclose(swapped, before.flip(0), atol=1e-5)
    assert torch.equal(network(images).logits, before)


# Weights.


def mini_bit():
    """Return a BiT ResNet of one small block a stage, every parameter drawn at random, without classifier."""
    net = ResNetV2(layers=(1, 2), channels=(128, 256), num_classes=0, stem_type="fixed", conv_layer=StdConv2d)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter)
    return net.eval()


def google_arrays(net):
    """Return a network's weights under the names and in the order of axes of Google's BiT files."""
    kernel = "standardized_conv2d/kernel"

    def hwio(conv):
        return conv.weight.detach().permute(2, 3, 1, 0).numpy()

    arrays = {
        f"resnet/root_block/{kernel}": hwio(net.stem.conv),
        "resnet/group_norm/gamma": net.norm.weight.detach().numpy(),
        "resnet/group_norm/beta": net.norm.bias.detach().numpy(),
        "resnet/head/conv2d/kernel": np.zeros((1, 1, 256, 21843), np.float32),
        "resnet/head/conv2d/bias": np.zeros(21843, np.float32),
    }
    for i, stage in enumerate(net.stages):
        for j, block in enumerate(stage.blocks):
            place = f"resnet/block{i + 1}/unit{j + 1:02d}"
            for letter, conv, norm in zip("abc", ("conv1", "conv2", "conv3"), ("norm1", "norm2", "norm3"), strict=True):
                arrays[f"{place}/{letter}/{kernel}"] = hwio(getattr(block, conv))
                arrays[f"{place}/{letter}/group_norm/gamma"] = getattr(block, norm).weight.detach().numpy()
                arrays[f"{place}/{letter}/group_norm/beta"] = getattr(block, norm).bias.detach().numpy()
            if block.downsample is not None:
                arrays[f"{place}/a/proj/{kernel}"] = hwio(block.downsample.conv)
    return arrays


def test_googles_npz_gives_the_same_outputs(tmp_path):
    torch.manual_seed(0)
    source, target = mini_bit(), mini_bit()
    images = torch.randn(2, 3, 32, 32)
    assert not torch.allclose(source(images), target(images))
    np.savez(tmp_path / "BiT-M-mini.npz", **google_arrays(source))
    load_weights(target, "mini", str(tmp_path / "BiT-M-mini.npz"))
    assert torch.equal(source(images), target(images))


def test_a_timm_file_leaves_its_classifier_out(tmp_path):
    torch.manual_seed(0)
    source = timm.create_model("test_convnext", num_classes=7)
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    target = build_backbone("test_convnext", 3, 32)
    load_weights(target, "test_convnext", str(tmp_path / "weights.safetensors"))
    assert all(torch.equal(source.state_dict()[key], value) for key, value in target.state_dict().items())


def test_a_checkpoint_of_ours_fills_the_backbone_only(tmp_path):
    source = built(seed=1, num_classes=7)
    torch.save({"state_dict": source.state_dict()}, tmp_path / "best.ckpt")
    target = built(backbone={"weights": str(tmp_path / "best.ckpt")})
    head = target.network.head.weight.clone()
    target.load_pretrained()
    for key, value in source.network.backbone.state_dict().items():
        assert torch.equal(target.network.backbone.state_dict()[key], value)
    assert torch.equal(target.network.head.weight, head)


def test_weights_are_not_read_before_load_pretrained():
    module = built(backbone={"weights": "nowhere.ckpt"})
    with pytest.raises(UserError, match=r"no file nowhere\.ckpt"):
        module.load_pretrained()


@pytest.mark.parametrize("suffix", ["npz", "ckpt", "safetensors"])
def test_weights_of_another_network_are_refused_in_one_line(tmp_path, suffix):
    path = tmp_path / f"weights.{suffix}"
    other = {"something": torch.zeros(1)}
    if suffix == "npz":
        np.savez(path, **{key: value.numpy() for key, value in other.items()})
    elif suffix == "ckpt":
        torch.save({"state_dict": other}, path)
    else:
        save_file(other, path)
    with pytest.raises(UserError, match="does not fit backbone") as error:
        load_weights(build_backbone("test_convnext", 3, 32), "test_convnext", str(path))
    assert "\n" not in str(error.value)
