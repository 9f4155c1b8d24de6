"""Which modules of the known families are operations: found by what a block is made of, never by its path."""

from collections.abc import Iterator, Mapping
from typing import Literal

from torch import nn

Op = Literal["mha", "ffn", "block", "conv"]

# Children of a transformer block: timm, open_clip, diffusers (attn1, attn2, ff), torch and torchvision (self_*).
ATTENTIONS = ("attn", "attn1", "attn2", "self_attn", "self_attention")
FEED_FORWARDS = ("mlp", "ff")
# Residual blocks without attention: ResNet (timm, torchvision, open_clip), ResNetV2, ConvNeXt (timm, torchvision).
CONV_BLOCKS = {"BasicBlock", "Bottleneck", "PreActBasic", "PreActBottleneck", "ConvNeXtBlock", "CNBlock"}
# Parts of diffusers' U-Nets outside their transformer blocks.
UNET_PARTS: Mapping[str, Op] = {
    "diffusers.models.resnet.ResnetBlock2D": "conv",
    "diffusers.models.attention_processor.Attention": "mha",
}


def kind(module: nn.Module) -> str:
    """Return the full name of a module's class, by which a library's class is told without importing the library."""
    return f"{type(module).__module__}.{type(module).__qualname__}"


def operations(backbone: nn.Module) -> Iterator[tuple[str, nn.Module, Op]]:
    """Yield name, module and op of every operation of the families we know; of open_clip models, the visual tower's."""
    # A tuner on the text tower would get no gradient from images.
    tower = "visual" if kind(backbone).startswith("open_clip.") and hasattr(backbone, "visual") else ""
    root = backbone.get_submodule(tower)
    seen: set[nn.Module] = set()
    for name, module in root.named_modules(prefix=tower):
        for part, operation, op in _parts(name, module):
            if operation not in seen:
                seen.add(operation)
                yield part, operation, op


def _parts(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module, Op]]:
    attentions = _children(module, ATTENTIONS)
    feed_forwards = _children(module, FEED_FORWARDS)
    is_conv = type(module).__name__ in CONV_BLOCKS
    # torch's layer keeps its feed-forward part in its own code.
    is_transformer = bool(attentions and feed_forwards) or isinstance(module, nn.TransformerEncoderLayer)
    if is_conv or is_transformer:
        yield name, module, "block"
        dot = f"{name}." if name else ""
        yield from ((dot + child, getattr(module, child), "mha") for child in attentions)
        yield from ((dot + child, getattr(module, child), "ffn") for child in feed_forwards)
    elif op := UNET_PARTS.get(kind(module)):
        yield name, module, op


def _children(module: nn.Module, names: tuple[str, ...]) -> list[str]:
    # Identity stands for a part that is left out.
    return [n for n in names if (c := module._modules.get(n)) is not None and not isinstance(c, nn.Identity)]  # noqa: SLF001
