"""The U-Net conditioned on tokens, a vector and local conditions: diffusers' UNet2DConditionModel."""

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from common.errors import UserError
from common.ranges import NonNegativeInt, PositiveInt
from networks.diffusion.conditions import Conditions
from networks.diffusion.unet import UNetOptions, check_unet, fold, unfold, with_local, zero_output


class ConditionedUNetOptions(UNetOptions):
    """The U-Net.

    In addition to `UNetOptions`: `token_width` is the width of the tokens. With `joint_attention` the tokens' keys and
    values are concatenated to those of the pixels in self-attention (GLIDE, unCLIP); without, blocks have self- and
    cross-attention (Stable Diffusion). `has_vector`: whether a vector of width 4 * channels[0] is added to the
    embedding of the timestep. `local_channels`: those concatenated to the noisy image. `scale_shift`: whether the
    timestep scales and shifts features or is added to them.
    """

    token_width: PositiveInt
    joint_attention: bool
    has_vector: bool
    local_channels: NonNegativeInt
    scale_shift: bool


class ConditionedUNet(nn.Module):
    """A UNet2DConditionModel behind a pixel-unshuffle stem, which absent conditions contribute nothing to.

    Args:
        unet: the U-Net; one of Stable Diffusion, read from its folder, serves too.
        local_channels: how many of its input channels are local conditions.
        stem: folds that many by that many pixels into channels.
    """

    def __init__(self, unet: nn.Module, local_channels: int = 0, stem: int = 1) -> None:
        super().__init__()
        # Type checkers do not see diffusers' lazily imported bases.
        self.unet = cast(Any, unet)
        self.local_channels, self.stem = local_channels, stem

    @property
    def vector_width(self) -> int:
        """Width of the vector that is added to the embedding of the timestep; 0 if there is none."""
        return int(self.unet.time_embedding.linear_2.out_features) if self.unet.class_embedding is not None else 0

    def forward(
        self, x: Float[Tensor, "b c h w"], timesteps: Tensor, conditions: Conditions | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Return the prediction for noisy images at timesteps [b].

        Raises:
            UserError: if a condition is given that the network does not take.
        """
        given = conditions or Conditions()
        inputs = fold(with_local(x, given.local, self.local_channels), self.stem)
        tokens, mask = self._tokens(given, inputs)
        output = self.unet(
            inputs, timesteps, tokens, class_labels=self._vector(given, x), encoder_attention_mask=mask
        ).sample
        return unfold(output, self.stem)

    def _vector(self, given: Conditions, x: Tensor) -> Tensor | None:
        width = self.vector_width
        if given.vector is not None:
            if given.vector.shape[1] != width:
                raise UserError(f"the vector has width {given.vector.shape[1]}, the network takes {width or 'none'}")
            return given.vector
        return x.new_zeros(len(x), width) if width else None

    def _tokens(self, given: Conditions, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the tokens and their mask; dropped tokens are zero and not attended to."""
        tokens, mask = given.tokens, given.token_mask
        if tokens is None:
            tokens = inputs.new_zeros(len(inputs), 1, self.unet.config.cross_attention_dim)
            mask = torch.zeros(tokens.shape[:2], dtype=torch.bool, device=inputs.device)
        if mask is None:
            return tokens, None
        # Where all tokens of a sample are dropped, attention is spread over them all again: zeros contribute nothing.
        tokens = tokens.masked_fill(~mask[..., None], 0)
        areas = {(inputs.shape[2] >> k) * (inputs.shape[3] >> k) for k in range(len(self.unet.config.down_block_types))}
        while mask.shape[1] in areas:
            # Diffusers extends the mask to the pixels of joint attention only if these are not as many as the tokens.
            tokens, mask = functional.pad(tokens, (0, 0, 0, 1)), functional.pad(mask, (0, 1))
        return tokens, mask


def build_conditioned_unet(image_channels: int, image_size: int, options: ConditionedUNetOptions) -> ConditionedUNet:
    """Return an untrained U-Net, whose first prediction is zero.

    Args:
        image_channels: channels of the images.
        image_size: side of the images.
        options: see `ConditionedUNetOptions`.

    Raises:
        UserError: in one line, if these make no network.
    """
    check_unet(options)
    stem, stages = options["patch_size"], len(options["channels"])
    if image_size % (factor := stem * 2 ** (stages - 1)):
        raise UserError(
            f"images of side {image_size} cannot be cut into {stem} x {stem} by the stem and halved {stages - 1} times"
            f" by the U-Net's stages: the side has to be a multiple of {factor}"
        )
    sizes = [image_size // stem >> stage for stage in range(stages)]
    attends = [size in options["attention"] for size in sizes]
    if not any(attends):
        raise UserError(f"network.attention is {options['attention']}: tokens need one of {sizes}, the stages' sizes")
    # Here, so that only runs with a diffusion model pay for the import.
    from diffusers import UNet2DConditionModel

    local = options["local_channels"]
    unet = UNet2DConditionModel(
        in_channels=(image_channels + local) * stem**2,
        out_channels=image_channels * stem**2,
        layers_per_block=options["layers"],
        norm_num_groups=options["norm_num_groups"],
        dropout=options["dropout"],
        cross_attention_dim=options["token_width"],
        class_embed_type="identity" if options["has_vector"] else None,
        resnet_time_scale_shift="scale_shift" if options["scale_shift"] else "default",
        **_blocks(options, attends),
    )
    if options["gradient_checkpointing"]:
        cast(Any, unet).enable_gradient_checkpointing()
    zero_output(cast(Any, unet))
    return ConditionedUNet(cast(Any, unet), local, stem)


def _blocks(options: ConditionedUNetOptions, attends: list[bool]) -> dict[str, Any]:
    channels, width = options["channels"], options["head_channels"]
    joint = options["joint_attention"]
    down, up = (f"Resnet{way}sampleBlock2D" if joint else f"{way}Block2D" for way in ("Down", "Up"))
    attention = "SimpleCrossAttn" if joint else "CrossAttn"
    return {
        "block_out_channels": tuple(channels),
        "down_block_types": tuple(f"{attention}DownBlock2D" if attend else down for attend in attends),
        "up_block_types": tuple(f"{attention}UpBlock2D" if attend else up for attend in reversed(attends)),
        "mid_block_type": f"UNetMidBlock2D{attention if attends[-1] else ''}",
        # Despite its name this is the number of heads, except in blocks of joint attention.
        "attention_head_dim": width if joint else tuple(each // width for each in channels),
    }
