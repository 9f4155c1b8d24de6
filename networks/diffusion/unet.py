"""The unconditional U-Net: diffusers' UNet2DModel behind a pixel-unshuffle stem, with attention at absolute sizes."""

from collections.abc import Iterable
from typing import Any, TypedDict, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from common.errors import UserError
from common.ranges import FractionBelowOne, PositiveInt
from networks.diffusion.conditions import Conditions


class UNetOptions(TypedDict):
    """The U-Net.

    `channels` are those of its stages, each half the size of the one before; `layers` are residual blocks for each
    stage. `attention` lists the feature sizes, in pixels, at which there is self-attention, whatever the size of the
    input or the stage; `head_channels` are the channels of one of its heads. `patch_size` folds that many by that many
    pixels into channels before the first stage. Every number of channels is a multiple of `norm_num_groups`, those of
    the group norms. `gradient_checkpointing` saves memory by computing activations twice.
    """

    channels: list[PositiveInt]
    layers: PositiveInt
    attention: list[PositiveInt]
    head_channels: PositiveInt
    patch_size: PositiveInt
    norm_num_groups: PositiveInt
    dropout: FractionBelowOne
    gradient_checkpointing: bool


class _AtSizes(nn.Module):
    """Self-attention at the listed feature sizes; elsewhere the features pass as they are."""

    def __init__(self, attention: nn.Module, sizes: Iterable[int]) -> None:
        super().__init__()
        self.attention, self.sizes = attention, frozenset(sizes)

    def forward(self, features: Float[Tensor, "b c h w"], **options: object) -> Float[Tensor, "b c h w"]:
        return self.attention(features, **options) if features.shape[-1] in self.sizes else features


class UNet(nn.Module):
    """Diffusers' UNet2DModel behind a pixel-unshuffle stem; the timestep enters by scale and shift.

    Args:
        image_channels: channels of the images.
        sizes: sides of the inputs it will see.
        options: see `UNetOptions`.
        local_channels: channels of the local conditions, which are concatenated to the noisy image.
    """

    def __init__(self, image_channels: int, sizes: list[int], options: UNetOptions, local_channels: int = 0) -> None:
        # Here, so that only runs with a diffusion model pay for the import.
        from diffusers import UNet2DModel

        super().__init__()
        self.patch_size, self.local_channels = options["patch_size"], local_channels
        stages = range(len(options["channels"]))
        attends = [any(size // self.patch_size >> stage in options["attention"] for size in sizes) for stage in stages]
        unet = UNet2DModel(
            in_channels=(image_channels + local_channels) * self.patch_size**2,
            out_channels=image_channels * self.patch_size**2,
            block_out_channels=tuple(options["channels"]),
            layers_per_block=options["layers"],
            down_block_types=tuple("AttnDownBlock2D" if attend else "DownBlock2D" for attend in attends),
            up_block_types=tuple("AttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attends)),
            attention_head_dim=options["head_channels"],
            norm_num_groups=options["norm_num_groups"],
            dropout=options["dropout"],
            resnet_time_scale_shift="scale_shift",
            add_attention=attends[-1],
        )
        # Type checkers do not see diffusers' lazily imported bases.
        self.unet = cast(Any, unet)
        _gate(self.unet, options["attention"])
        if options["gradient_checkpointing"]:
            self.unet.enable_gradient_checkpointing()
        zero_output(self.unet)

    def forward(
        self, x: Float[Tensor, "b c h w"], timesteps: Tensor, conditions: Conditions | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Return the prediction for noisy images at timesteps [b].

        Raises:
            UserError: if there are conditions other than local ones.
        """
        if conditions is not None and (conditions.tokens is not None or conditions.vector is not None):
            raise UserError("an unconditional U-Net takes local conditions only, no tokens and no vector")
        local = None if conditions is None else conditions.local
        folded = fold(with_local(x, local, self.local_channels), self.patch_size)
        return unfold(self.unet(folded, timesteps).sample, self.patch_size)


def _gate(unet: nn.Module, sizes: list[int]) -> None:
    from diffusers.models.attention_processor import Attention

    for module in [module for module in unet.modules() if isinstance(module, nn.ModuleList)]:
        for place, child in enumerate(module):
            if isinstance(child, Attention):
                module[place] = _AtSizes(child, sizes)


def zero_output(unet: nn.Module) -> None:
    """Let the first prediction of a U-Net of diffusers be zero, like ADM's (Dhariwal and Nichol 2021)."""
    last = cast(nn.Conv2d, unet.conv_out)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(cast(Tensor, last.bias))


def fold(x: Float[Tensor, "b c h w"], stem: int) -> Tensor:
    """Return [b, c * stem^2, h / stem, w / stem]."""
    return functional.pixel_unshuffle(x, stem) if stem > 1 else x


def unfold(x: Float[Tensor, "b c h w"], stem: int) -> Tensor:
    """Undo `fold`."""
    return functional.pixel_shuffle(x, stem) if stem > 1 else x


def with_local(x: Float[Tensor, "b c h w"], local: Tensor | None, channels: int) -> Tensor:
    """Return the noisy images with local conditions [b, channels, h, w] concatenated; absent ones are zeros.

    Raises:
        UserError: if the network takes another number of channels.
    """
    given = channels if local is None else local.shape[1]
    if given != channels:
        raise UserError(f"local conditions have {given} channels, the network takes {channels}")
    if not channels:
        return x
    return torch.cat([x, x.new_zeros(len(x), channels, *x.shape[2:]) if local is None else local], 1)


def check_unet(options: UNetOptions) -> None:
    """Raise UserError, in one line, for options that make no network."""
    channels, groups = options["channels"], options["norm_num_groups"]
    if not channels or min(options["layers"], options["patch_size"], groups, options["head_channels"]) < 1:
        raise UserError(
            "network: needs at least one stage, one layer, and patch_size, norm_num_groups and head_channels of 1"
            " or more"
        )
    if any(width % groups for width in channels):
        raise UserError(f"network.channels is {channels}: each has to be a multiple of norm_num_groups = {groups}")
    if options["attention"] and any(width % options["head_channels"] for width in channels):
        raise UserError(
            f"network.channels is {channels}: with attention each has to be a multiple of"
            f" network.head_channels = {options['head_channels']}"
        )
