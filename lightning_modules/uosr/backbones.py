"""Backbones: the small convolutional net of the rendered shapes, or any that the libraries have."""

from torch import nn

import networks.backbones
from common.errors import UserError
from networks.small_conv_net import SmallConvNet


class Backbone(networks.backbones.Backbone):
    """`name` may be `small`; `zero_head` starts the linear head at zero, as BiT does."""

    zero_head: bool


def build_backbone(name: str, in_channels: int, image_size: int) -> nn.Module:
    """Return an untrained backbone: images [b, c, h, w] to penultimate features [b, d].

    Args:
        name: `small`, or see `networks.backbones.Backbone`.
        in_channels: channels of the images.
        image_size: side of the images in pixels.

    Raises:
        UserError: if there is no such backbone.
    """
    if name == "small":
        return SmallConvNet(in_channels, image_size)
    return networks.backbones.build_backbone(name, in_channels, image_size, own="small")


def middle_block(backbone: nn.Module) -> nn.Module:
    """Return the block in the middle, where manifold mixup mixes: `block2`, which is `stages.1` of the BiT ResNet.

    Raises:
        UserError: if the backbone does not say what its blocks are.
    """
    if isinstance(backbone, SmallConvNet):
        return backbone.get_submodule("block2")
    levels = list(getattr(backbone, "feature_info", ()))
    if not levels:
        raise UserError(f"{type(backbone).__name__} does not name its blocks, so there is no middle to mix at")
    return backbone.get_submodule(levels[(len(levels) - 1) // 2]["module"])
