"""Backbones: the ViT of the glyph world, or any that the libraries have."""

from typing import Any

from timm.models.vision_transformer import VisionTransformer
from torch import nn

import networks.backbones

# 0.68 million parameters (§3.1).
_GLYPH_VIT: dict[str, Any] = {"patch_size": 4, "embed_dim": 96, "depth": 6, "num_heads": 4}


def build_backbone(name: str, in_channels: int, image_size: int) -> nn.Module:
    """Return an untrained backbone: images [b, c, h, w] to features [b, d], without a classifier.

    Args:
        name: `glyph_vit`, or see `networks.backbones.Backbone`.
        in_channels: channels of the images.
        image_size: side of the images in pixels.

    Raises:
        UserError: if there is no such backbone.
    """
    if name == "glyph_vit":
        return VisionTransformer(img_size=image_size, in_chans=in_channels, num_classes=0, **_GLYPH_VIT)
    return networks.backbones.build_backbone(name, in_channels, image_size, own="glyph_vit")
