"""StyleGAN2's residual discriminator, module for module that of stylegan2-ada-pytorch."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from networks.gan.stylegan2.generator import MappingNetwork
from networks.gan.stylegan2.layers import Conv2d, FullyConnected, channels_at
from networks.gan.stylegan2.minibatch_deviation import Grouping, minibatch_deviation


class DiscriminatorBlock(nn.Module):
    """Two convolutions, of which the second halves the size, with a skip ("resnet" architecture)."""

    def __init__(
        self, channels: int, outputs: int, *, image_channels: int | None = None, conv_clamp: float | None = None
    ) -> None:
        super().__init__()
        if image_channels:
            self.fromrgb = Conv2d(image_channels, channels, 1, conv_clamp=conv_clamp)
        self.has_image = bool(image_channels)
        self.conv0 = Conv2d(channels, channels, 3, conv_clamp=conv_clamp)
        self.conv1 = Conv2d(channels, outputs, 3, down=2, conv_clamp=conv_clamp)
        self.skip = Conv2d(channels, outputs, 1, bias=False, is_active=False, down=2)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h/2 w/2"]:
        """Return feature maps of half the size."""
        x = self.fromrgb(x) if self.has_image else x
        gain = math.sqrt(0.5)
        return self.skip(x, gain) + self.conv1(self.conv0(x), gain)


class DiscriminatorEpilogue(nn.Module):
    """From 4 x 4 maps to a number: the deviation over groups of samples as one more map, convolution, two layers."""

    def __init__(
        self,
        channels: int,
        cmap_dim: int,
        *,
        group: int = 4,
        grouping: Grouping = "strided",
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.group, self.grouping, self.cmap_dim = group, grouping, cmap_dim
        self.conv = Conv2d(channels + 1, channels, 3, conv_clamp=conv_clamp)
        self.fc = FullyConnected(channels * 16, channels, is_active=True)
        self.out = FullyConnected(channels, cmap_dim or 1)

    def forward(self, x: Float[Tensor, "b c 4 4"], condition: Float[Tensor, "b m"] | None) -> Float[Tensor, " b"]:
        """Return logits."""
        x = self.conv(torch.cat([x, minibatch_deviation(x, self.group, self.grouping)], dim=1))
        x = self.out(self.fc(x.flatten(1)))
        if condition is None:
            return x[:, 0]
        return (x * condition).sum(dim=1) / math.sqrt(self.cmap_dim)


class Discriminator(nn.Module):
    """The residual discriminator, on request with a condition by projection.

    Args:
        resolution: side of the images, a power of two.
        image_channels: channels of the images.
        c_dim: size of the condition; 0 for none.
        channel_base: channels times side.
        channel_max: bound of the channels.
        group: samples that the deviation is taken over.
        grouping: which samples form a group, see `minibatch_deviation`.
        conv_clamp: bound of the activations' absolute values, or None.
    """

    def __init__(
        self,
        resolution: int,
        image_channels: int,
        *,
        c_dim: int = 0,
        channel_base: int = 32768,
        channel_max: int = 512,
        group: int = 4,
        grouping: Grouping = "strided",
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.sides = [2**k for k in range(int(math.log2(resolution)), 2, -1)]
        for side in self.sides:
            block = DiscriminatorBlock(
                channels_at(side, channel_base, channel_max),
                channels_at(side // 2, channel_base, channel_max),
                image_channels=image_channels if side == resolution else None,
                conv_clamp=conv_clamp,
            )
            self.add_module(f"b{side}", block)
        last = channels_at(4, channel_base, channel_max)
        if c_dim:
            self.mapping = MappingNetwork(0, c_dim, last, has_average=False)
        self.b4 = DiscriminatorEpilogue(
            last, last if c_dim else 0, group=group, grouping=grouping, conv_clamp=conv_clamp
        )
        self.c_dim = c_dim

    def forward(self, image: Float[Tensor, "b c h w"], c: Float[Tensor, "b c"] | None = None) -> Float[Tensor, " b"]:
        """Return logits: above 0 for real."""
        x = image
        for side in self.sides:
            x = self.get_submodule(f"b{side}")(x)
        return self.b4(x, self.mapping(None, c) if self.c_dim else None)
