"""Backbones: the small convolutional net of the rendered shapes, and any timm model by name; weights by path."""

from collections import OrderedDict
from pathlib import Path
from typing import TypedDict

import timm
import torch
from timm.models import load_state_dict as read_weights
from torch import Tensor, nn


class Backbone(TypedDict):
    """What the features come from.

    `name` is `small` or a timm model. `weights` is null (from scratch), a checkpoint of this project (`.ckpt`),
    Google's BiT file (`.npz`), a timm file (`.safetensors`, `.pth`) or `hub` (timm fetches its own). `zero_head`
    starts the linear head at zero, as BiT does.
    """

    name: str
    weights: str | None
    zero_head: bool


class BackboneError(ValueError):
    """There is no such backbone, or no such weights; the user can put it right."""

    is_bad_input = True


class SmallConvNet(nn.Sequential):
    """Three blocks of convolution, batch norm, ReLU and pooling (16-32-64 channels), 2 x 2 positions, 256 features.

    The last pooling always ends at 2 x 2, so 8 x 8 digits pass the same net as 16 x 16 shapes.

    Args:
        in_channels: channels of the images.
        image_size: side of the images, a multiple of 8.
    """

    num_features = 256

    def __init__(self, in_channels: int, image_size: int) -> None:
        if image_size < 8 or image_size % 8:
            raise BackboneError(f"the small backbone needs images whose side is a multiple of 8, not {image_size}")
        widths = (in_channels, 16, 32, 64)
        pools = (2, 2, image_size // 8)
        blocks = [
            # No bias before a batch norm: its gradient is rounding noise, which Adam would blow up to whole steps.
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(pool))
            for a, b, pool in zip(widths, widths[1:], pools, strict=False)
        ]
        last = nn.Sequential(
            nn.Flatten(), nn.Linear(64 * 4, self.num_features, bias=False), nn.BatchNorm1d(self.num_features), nn.ReLU()
        )
        named = {"block1": blocks[0], "block2": blocks[1], "block3": blocks[2], "features": last}
        super().__init__(OrderedDict(named))


def build_backbone(name: str, in_channels: int, image_size: int) -> nn.Module:
    """Return an untrained backbone: images [b, c, h, w] to penultimate features [b, d].

    Args:
        name: `small` or the name of a timm model.
        in_channels: channels of the images.
        image_size: side of the images in pixels (only the small net is built for one).

    Raises:
        BackboneError: if there is no such backbone.
    """
    if name == "small":
        return SmallConvNet(in_channels, image_size)
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name[:6]}*")[:5])
        raise BackboneError(f"there is no backbone '{name}': take small or a timm model{near and f', such as {near}'}")
    return timm.create_model(name, pretrained=False, num_classes=0, in_chans=in_channels)


def feature_size(backbone: nn.Module) -> int:
    """Return the number d of penultimate features."""
    return int(getattr(backbone, "head_hidden_size", backbone.num_features))


def middle_block(backbone: nn.Module) -> nn.Module:
    """Return the block in the middle, where manifold mixup mixes: `block2`, which is `stages.1` of the BiT ResNet.

    Raises:
        BackboneError: if the backbone does not say what its blocks are.
    """
    if isinstance(backbone, SmallConvNet):
        return backbone.get_submodule("block2")
    levels = list(getattr(backbone, "feature_info", ()))
    if not levels:
        raise BackboneError(f"{type(backbone).__name__} does not name its blocks, so there is no middle to mix at")
    return backbone.get_submodule(levels[(len(levels) - 1) // 2]["module"])


def load_weights(backbone: nn.Module, weights: str, name: str) -> None:
    """Load pre-trained weights into a backbone; a classifier that comes with them is left out.

    Args:
        backbone: the backbone to fill.
        weights: a path, or `hub` for what timm publishes under `name`.
        name: the backbone's name.

    Raises:
        BackboneError: if there is no such file, or it holds the weights of another network.
    """
    if weights != "hub" and not Path(weights).is_file():
        raise BackboneError(f"model.backbone.weights: there is no file {weights}")
    try:
        if weights.endswith(".npz"):
            # timm's own reader of Google's layout, which BiT networks have.
            backbone.load_pretrained(weights)
        else:
            backbone.load_state_dict(_tensors(backbone, weights, name))
    except (AttributeError, KeyError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BackboneError(f"model.backbone.weights: {weights} does not fit backbone {name}: {reason}") from error


def _tensors(backbone: nn.Module, weights: str, name: str) -> dict[str, Tensor]:
    if weights == "hub":
        return timm.create_model(name, pretrained=True, num_classes=0).state_dict()
    if weights.endswith(".ckpt"):
        mark = "network.backbone."
        tensors = torch.load(weights, map_location="cpu", weights_only=True)["state_dict"]
        return {key.removeprefix(mark): value for key, value in tensors.items() if key.startswith(mark)}
    classifier = str(getattr(backbone, "pretrained_cfg", {}).get("classifier", "head.fc"))
    return {k: v for k, v in read_weights(weights, weights_only=True).items() if not k.startswith(f"{classifier}.")}
