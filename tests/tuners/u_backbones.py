"""Tiny untrained networks of every family, each with an input."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import open_clip
import timm
import torch
from diffusers import DiTTransformer2DModel, UNet2DConditionModel, UNet2DModel
from torch import Tensor, nn

from tuners.u_tuning import Spec

CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1},
}
UNET: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 8,
}


class Case(NamedTuple):
    network: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def run(self) -> Tensor:
        return output_of(self.network, *self.args, **self.kwargs)


def output_of(network: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
    output = network(*args, **kwargs)
    if isinstance(output, dict):
        output = next(iter(output.values()))
    return output[0] if isinstance(output, tuple) else output


def vit(**options: Any) -> nn.Module:
    options = {"img_size": 16, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 5} | options
    return timm.models.VisionTransformer(**options)


def _clip_timm() -> nn.Module:
    vision = {"image_size": 16, "timm_model_name": "test_vit", "timm_pool": "token", "timm_proj": "linear"}
    model = open_clip.CustomTextCLIP(**(CLIP | {"vision_cfg": vision}))
    model.visual.trunk.set_input_size((16, 16))
    return model


def _resnet(name: str, **options: Any) -> nn.Module:
    return timm.create_model(name, num_classes=5, **options)


def _bit() -> nn.Module:
    norm = partial(timm.layers.GroupNormAct, num_groups=4)
    return timm.models.ResNetV2(layers=(1, 1), channels=(16, 32), stem_chs=8, num_classes=5, norm_layer=norm)


def _unet() -> nn.Module:
    down, up = ("DownBlock2D", "AttnDownBlock2D"), ("AttnUpBlock2D", "UpBlock2D")
    return UNet2DModel(in_channels=3, out_channels=3, down_block_types=down, up_block_types=up, **UNET)


def _unet_condition() -> nn.Module:
    down, up = ("CrossAttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")
    return UNet2DConditionModel(cross_attention_dim=12, down_block_types=down, up_block_types=up, **UNET)


def _dit() -> nn.Module:
    options = {"sample_size": 8, "num_layers": 2, "norm_num_groups": 4, "num_embeds_ada_norm": 10}
    return DiTTransformer2DModel(num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=4, **options)


def _encoder(batch_first: bool) -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=batch_first)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def _plain() -> nn.Module:
    stem = nn.Conv2d(3, 8, 3, padding=1)
    same = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
    strided = nn.Sequential(nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.Tanh())
    return nn.Sequential(stem, same, strided, nn.Flatten(), nn.Linear(8 * 64, 5))


CONVNEXT = {"depths": (1, 1, 1, 1), "dims": (8, 16, 16, 24), "ls_init_value": 0.5, "num_classes": 5}
IMAGE = ((2, 3, 16, 16),)
BUILDERS: dict[str, tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...], dict[str, Any]]] = {
    "timm_vit": (vit, IMAGE, {}),
    "timm_deit": (lambda: timm.create_model("test_vit3", img_size=16, num_classes=5), IMAGE, {}),
    "timm_eva": (
        lambda: timm.models.Eva(16, 8, embed_dim=32, depth=2, num_heads=4, num_classes=5, use_rot_pos_emb=True),
        IMAGE,
        {},
    ),
    "open_clip_vit": (lambda: open_clip.CLIP(**CLIP), IMAGE, {}),
    "open_clip_timm": (_clip_timm, IMAGE, {}),
    "timm_convnext": (lambda: timm.models.ConvNeXt(**CONVNEXT), ((2, 3, 32, 32),), {}),
    "timm_convnext_conv_mlp": (lambda: timm.models.ConvNeXt(conv_mlp=True, **CONVNEXT), ((2, 3, 32, 32),), {}),
    "timm_resnet": (lambda: _resnet("test_resnet"), ((2, 3, 32, 32),), {}),
    "timm_resnetv2": (_bit, ((2, 3, 32, 32),), {}),
    "unet": (_unet, ((2, 3, 8, 8),), {"timestep": 3}),
    "unet_condition": (
        _unet_condition,
        ((2, 4, 8, 8),),
        {"timestep": 3, "encoder_hidden_states": torch.linspace(-1, 1, 120).view(2, 5, 12)},
    ),
    "dit": (_dit, ((2, 4, 8, 8),), {"timestep": torch.tensor([1, 2]), "class_labels": torch.tensor([1, 2])}),
    "torch_encoder": (lambda: _encoder(True), ((2, 5, 16),), {}),
    "torch_encoder_batch_second": (lambda: _encoder(False), ((5, 2, 16),), {}),
    "plain_conv": (_plain, IMAGE, {}),
}
PATTERNS = {"plain_conv": {"block": "[1-2]"}}


def build(name: str) -> Case:
    torch.manual_seed(0)
    builder, shapes, kwargs = BUILDERS[name]
    # Frozen from the start: nn.MultiheadAttention rounds otherwise where no weight is trained.
    network = builder().eval().requires_grad_(False)
    for parameter in network.parameters():
        # Biases and zero-initialised weights must take part, so that nothing is invisible behind them.
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return Case(network, tuple(torch.randn(shape) for shape in shapes), kwargs)


def spec(**changes: Any) -> Spec:
    base: Spec = {
        "op": "block",
        "tuner": "adapter",
        "dim": 3,
        "input": "op_in",
        "query": "free",
        "gate": "constant",
        "scale": 1.0,
        "init": "xavier",
        "activation": "gelu",
        "layers": None,
    }
    return base | changes  # type: ignore[return-value]
