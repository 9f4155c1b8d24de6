"""Backbones: the small convolutional net of the rendered shapes, or any that the libraries have."""

from collections import OrderedDict

from torch import nn

import networks.backbones
from networks.backbones import BackboneError

# What a tuner finds in the small net, which is of no family that tuners know.
SITE_PATTERNS = {"block": r"block\d"}


class Backbone(networks.backbones.Backbone):
    """`name` may be `small`; `zero_head` starts the linear head at zero, as BiT does."""

    zero_head: bool


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
        name: `small`, or see `networks.backbones.Backbone`.
        in_channels: channels of the images.
        image_size: side of the images in pixels.

    Raises:
        BackboneError: if there is no such backbone.
    """
    if name == "small":
        return SmallConvNet(in_channels, image_size)
    return networks.backbones.build_backbone(name, in_channels, image_size, own="small")


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
