"""The noise predictor: a U-Net of diffusers that runs at every level, or one for each level (spec, section 2.4)."""

from collections.abc import Iterable
from typing import Any, Literal, TypedDict, cast

import torch
from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from common.errors import UserError


class UNetOptions(TypedDict):
    """The U-Net.

    `share` is "shared" (one U-Net, run at the size of every level) or "per_level". `channels` are those of its stages,
    each half the size of the one before; `layers` are residual blocks for each stage. `attention` lists the feature
    sizes, in pixels, at which there is self-attention, whatever the level or stage; `head_channels` are the channels
    of one of its heads. `stem` folds that many by that many pixels into channels before the first stage. Every
    number of channels is a multiple of `groups`, those of the group norms. `checkpointing` saves memory by computing
    activations twice.
    """

    share: Literal["shared", "per_level"]
    channels: list[int]
    layers: int
    attention: list[int]
    head_channels: int
    stem: int
    groups: int
    dropout: float
    checkpointing: bool


class _AtSizes(nn.Module):
    """Self-attention at the listed feature sizes; elsewhere the features pass as they are."""

    def __init__(self, attention: nn.Module, sizes: Iterable[int]) -> None:
        super().__init__()
        self.attention, self.sizes = attention, frozenset(sizes)

    def forward(self, features: Float[Tensor, "b c h w"], **options: object) -> Float[Tensor, "b c h w"]:
        return self.attention(features, **options) if features.shape[-1] in self.sizes else features


class UNet(nn.Module):
    """Diffusers' UNet2DModel behind a pixel-unshuffle stem; time enters by scale and shift.

    Args:
        image_channels: channels of the images.
        sizes: sides of the inputs it will see, one for each level that it serves.
        options: see `UNetOptions`.
    """

    def __init__(self, image_channels: int, sizes: list[int], options: UNetOptions) -> None:
        super().__init__()
        self.stem = options["stem"]
        stages = range(len(options["channels"]))
        attends = [any(size // self.stem >> stage in options["attention"] for size in sizes) for stage in stages]
        folded = image_channels * self.stem**2
        unet = UNet2DModel(
            in_channels=folded,
            out_channels=folded,
            block_out_channels=tuple(options["channels"]),
            layers_per_block=options["layers"],
            down_block_types=tuple("AttnDownBlock2D" if attend else "DownBlock2D" for attend in attends),
            up_block_types=tuple("AttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attends)),
            attention_head_dim=options["head_channels"],
            norm_num_groups=options["groups"],
            dropout=options["dropout"],
            resnet_time_scale_shift="scale_shift",
            add_attention=attends[-1],
        )
        # Type checkers do not see diffusers' lazily imported bases.
        self.unet = cast(Any, unet)
        _gate(self.unet, options["attention"])
        if options["checkpointing"]:
            self.unet.enable_gradient_checkpointing()
        # Like ADM's: the first prediction is zero.
        nn.init.zeros_(self.unet.conv_out.weight)
        nn.init.zeros_(self.unet.conv_out.bias)

    def forward(self, x: Float[Tensor, "b c h w"], time: Tensor) -> Float[Tensor, "b c h w"]:
        """Return the prediction for inputs at times [b]."""
        folded = functional.pixel_unshuffle(x, self.stem) if self.stem > 1 else x
        output = self.unet(folded, time).sample
        return functional.pixel_shuffle(output, self.stem) if self.stem > 1 else output


def _gate(unet: nn.Module, sizes: list[int]) -> None:
    for module in [module for module in unet.modules() if isinstance(module, nn.ModuleList)]:
        for place, child in enumerate(module):
            if isinstance(child, Attention):
                module[place] = _AtSizes(child, sizes)


class LevelNetworks(nn.Module):
    """The networks of all levels.

    Args:
        image_channels: channels of the images.
        image_size: side of the images at level 0.
        levels: number of levels, K + 1.
        options: see `UNetOptions`.

    Raises:
        UserError: if the sizes of some level cannot be halved often enough.
    """

    def __init__(self, image_channels: int, image_size: int, levels: int, options: UNetOptions) -> None:
        super().__init__()
        check_network(image_size, levels, options)
        sizes = [image_size >> level for level in range(levels)]
        served = [sizes] if options["share"] == "shared" else [[size] for size in sizes]
        self.networks = nn.ModuleList(UNet(image_channels, of_one, options) for of_one in served)

    def of(self, level: int) -> nn.Module:
        """Return the network that serves a level."""
        return self.networks[level if len(self.networks) > 1 else 0]

    def forward(self, x: Float[Tensor, "b c h w"], level: int, time: Tensor) -> Float[Tensor, "b c h w"]:
        """Return the prediction for inputs of a level at times [b]."""
        return self.of(level)(x, time)

    def compile_each(self) -> None:
        """Let torch.compile make one graph for every size; the keys of checkpoints stay as they are."""
        # A graph for every size, in training and without gradients.
        torch._dynamo.config.cache_size_limit = 32  # noqa: SLF001 - it has no public name
        for network in self.networks:
            network.compile(dynamic=False)


def uneven_use(levels: int, options: UNetOptions) -> bool:
    """Return whether a step at one level can leave weights unused that others use."""
    return levels > 1 and (options["share"] == "per_level" or bool(options["attention"]))


def check_network(image_size: int, levels: int, options: UNetOptions) -> None:
    """Raise UserError, in one line, for options or sizes that make no network."""
    channels, groups = options["channels"], options["groups"]
    if not channels or min(options["layers"], options["stem"], groups, options["head_channels"]) < 1:
        raise UserError("network: needs at least one stage, one layer, a stem, groups and head_channels of 1 or more")
    if any(width % groups for width in channels):
        raise UserError(f"network.channels is {channels}: each has to be a multiple of network.groups = {groups}")
    if options["attention"] and any(width % options["head_channels"] for width in channels):
        raise UserError(
            f"network.channels is {channels}: with attention each has to be a multiple of"
            f" network.head_channels = {options['head_channels']}"
        )
    stages = len(channels)
    factor = options["stem"] * 2 ** (levels - 1) * 2 ** (stages - 1)
    if image_size % factor:
        raise UserError(
            f"images of side {image_size} cannot be halved {levels - 1} times by the turning points, cut into"
            f" {options['stem']} x {options['stem']} by the stem and halved {stages - 1} times by the U-Net's stages:"
            f" the side has to be a multiple of {factor}"
        )
