"""StyleGAN2's mapping, synthesis and discriminator, module for module those of stylegan2-ada-pytorch."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from networks.precision import single_precision
from networks.stylegan2_layers import (
    Conv2d,
    FullyConnected,
    SynthesisLayer,
    ToRGB,
    binomial_filter,
    double,
    second_moment_norm,
)


def channels_at(resolution: int, channel_base: int, channel_max: int) -> int:
    """Return the number of channels of feature maps of a size."""
    return min(channel_base // resolution, channel_max)


class MappingNetwork(nn.Module):
    """From z (and a condition) to w.

    Args:
        z_dim: size of z; 0 for a condition alone.
        c_dim: size of the condition; 0 for none.
        w_dim: size of w.
        layers: number of layers.
        has_average: whether the moving average of w is kept, for truncation.
        average_decay: its decay.
    """

    w_avg: Tensor

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        *,
        layers: int = 8,
        has_average: bool = True,
        average_decay: float = 0.998,
    ) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.layers, self.average_decay = z_dim, c_dim, layers, average_decay
        if c_dim:
            self.embed = FullyConnected(c_dim, w_dim)
        first = z_dim + (w_dim if c_dim else 0)
        for place in range(layers):
            layer = FullyConnected(w_dim if place else first, w_dim, is_active=True, lr_multiplier=0.01)
            self.add_module(f"fc{place}", layer)
        if has_average:
            self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(
        self, z: Float[Tensor, "b z"] | None, c: Float[Tensor, "b c"] | None = None, *, truncation: float = 1.0
    ) -> Float[Tensor, "b w"]:
        """Return w, moved towards its average by `truncation` below 1."""
        context = z if z is not None else c
        assert context is not None
        with single_precision(context):
            w = self._mapped(z, c)
        return w if truncation == 1 else torch.lerp(self.w_avg, w, truncation)

    def _mapped(self, z: Tensor | None, c: Tensor | None) -> Tensor:
        parts = [] if z is None or not self.z_dim else [second_moment_norm(z.float())]
        if self.c_dim:
            assert c is not None
            parts.append(second_moment_norm(self.embed(c.float())))
        w = torch.cat(parts, dim=1)
        for place in range(self.layers):
            w = self.get_submodule(f"fc{place}")(w)
        return w

    @torch.no_grad()
    def follow(self, w: Float[Tensor, "b w"]) -> None:
        """Take w up into its moving average."""
        self.w_avg.lerp_(w.detach().float().mean(dim=0), 1 - self.average_decay)


class SynthesisBlock(nn.Module):
    """Two modulated convolutions, of which the first doubles the size, and a sum of images ("skip" architecture).

    Args:
        inputs: channels in; 0 for the first block, which starts from a constant.
        outputs: channels out.
        w_dim: size of the latent.
        resolution: side of the output.
        image_channels: channels of the image.
        up: 2, or 1 for a block that keeps the size (of a super-resolution).
        conv_clamp: most that activations may be, or None.
    """

    resample_filter: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        w_dim: int,
        resolution: int,
        image_channels: int,
        *,
        up: int = 2,
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.up, self.convolutions = up, 2 if inputs else 1
        self.register_buffer("resample_filter", binomial_filter())
        if inputs:
            self.conv0 = SynthesisLayer(inputs, outputs, w_dim, resolution, up=up, conv_clamp=conv_clamp)
        else:
            self.const = nn.Parameter(torch.randn(outputs, resolution, resolution))
        self.conv1 = SynthesisLayer(outputs, outputs, w_dim, resolution, conv_clamp=conv_clamp)
        self.torgb = ToRGB(outputs, image_channels, w_dim, conv_clamp=conv_clamp)

    def forward(
        self, x: Tensor | None, image: Tensor | None, ws: Float[Tensor, "b n w"], noise: str = "random"
    ) -> tuple[Tensor, Tensor]:
        """Return feature maps and image; `ws` are the latents of the convolutions and of the image."""
        x = self.const.expand(len(ws), -1, -1, -1) if self.convolutions == 1 else self.conv0(x, ws[:, 0], noise)
        x = self.conv1(x, ws[:, self.convolutions - 1], noise)
        # Images are summed in single precision over all sizes.
        added = self.torgb(x, ws[:, self.convolutions]).float()
        if image is not None:
            added = added + (double(image, self.resample_filter) if self.up == 2 else image)
        return x, added


class SynthesisNetwork(nn.Module):
    """From latents, one for every layer, to an image (or planes).

    Args:
        w_dim: size of the latents.
        resolution: side of the image, a power of two.
        image_channels: channels of the image.
        channel_base: channels times side.
        channel_max: most channels.
        conv_clamp: most that activations may be, or None.
    """

    def __init__(
        self,
        w_dim: int,
        resolution: int,
        image_channels: int,
        *,
        channel_base: int = 32768,
        channel_max: int = 512,
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.sides = [2**k for k in range(2, int(math.log2(resolution)) + 1)]
        self.num_ws = 2 * len(self.sides)
        inputs = 0
        for side in self.sides:
            outputs = channels_at(side, channel_base, channel_max)
            block = SynthesisBlock(inputs, outputs, w_dim, side, image_channels, conv_clamp=conv_clamp)
            self.add_module(f"b{side}", block)
            inputs = outputs

    def forward(self, ws: Float[Tensor, "b n w"], noise: str = "random") -> Float[Tensor, "b c h w"]:
        """Return the image; `noise` is "random", "const" or "none"."""
        x, image, place = None, None, 0
        for side in self.sides:
            block = self.get_submodule(f"b{side}")
            assert isinstance(block, SynthesisBlock)
            x, image = block(x, image, ws[:, place : place + block.convolutions + 1], noise)
            place += block.convolutions
        assert image is not None
        return image


class StyleGAN2(nn.Module):
    """Mapping and synthesis: `mapping.*` and `synthesis.*` as in the reference's G.

    Args:
        z_dim: size of z.
        c_dim: size of the condition; 0 for none.
        w_dim: size of w.
        resolution: side of the image.
        image_channels: channels of the image.
        mapping_layers: layers of the mapping.
        channel_base: channels times side.
        channel_max: most channels.
        conv_clamp: most that activations may be, or None.
    """

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        resolution: int,
        image_channels: int,
        *,
        mapping_layers: int = 8,
        channel_base: int = 32768,
        channel_max: int = 512,
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.synthesis = SynthesisNetwork(
            w_dim,
            resolution,
            image_channels,
            channel_base=channel_base,
            channel_max=channel_max,
            conv_clamp=conv_clamp,
        )
        self.mapping = MappingNetwork(z_dim, c_dim, w_dim, layers=mapping_layers)

    def forward(
        self, z: Float[Tensor, "b z"], c: Float[Tensor, "b c"] | None = None, noise: str = "random"
    ) -> Float[Tensor, "b c h w"]:
        """Return images of z."""
        return self.synthesis(self.latents(self.mapping(z, c)), noise)

    def latents(self, w: Float[Tensor, "b w"]) -> Float[Tensor, "b n w"]:
        """Return the same w for every layer."""
        return w[:, None].expand(-1, self.synthesis.num_ws, -1)


class DiscriminatorBlock(nn.Module):
    """Two convolutions, of which the second halves the size, beside a skip ("resnet" architecture)."""

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

    def __init__(self, channels: int, cmap_dim: int, *, group: int = 4, conv_clamp: float | None = None) -> None:
        super().__init__()
        self.group, self.cmap_dim = group, cmap_dim
        self.conv = Conv2d(channels + 1, channels, 3, conv_clamp=conv_clamp)
        self.fc = FullyConnected(channels * 16, channels, is_active=True)
        self.out = FullyConnected(channels, cmap_dim or 1)

    def forward(self, x: Float[Tensor, "b c 4 4"], condition: Float[Tensor, "b m"] | None) -> Float[Tensor, " b"]:
        """Return logits."""
        x = self.out(self.fc(self.conv(self._with_deviation(x)).flatten(1)))
        if condition is None:
            return x[:, 0]
        return (x * condition).sum(dim=1) / math.sqrt(self.cmap_dim)

    def _with_deviation(self, x: Float[Tensor, "b c 4 4"]) -> Float[Tensor, "b c+1 4 4"]:
        batch = len(x)
        # The reference takes no batch that its groups do not divide; the last one of a test may be any.
        group = math.gcd(batch, self.group)
        parts = x.float().reshape(group, batch // group, *x.shape[1:])
        deviation = (parts.var(dim=0, correction=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))
        shown = deviation.to(x.dtype).reshape(1, -1, 1, 1, 1).expand(group, -1, 1, *x.shape[2:])
        return torch.cat([x, shown.reshape(batch, 1, *x.shape[2:])], dim=1)


class Discriminator(nn.Module):
    """The residual discriminator, on request with a condition by projection.

    Args:
        resolution: side of the images, a power of two.
        image_channels: channels of the images.
        c_dim: size of the condition; 0 for none.
        channel_base: channels times side.
        channel_max: most channels.
        group: samples that the deviation is taken over.
        conv_clamp: most that activations may be, or None.
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
        self.b4 = DiscriminatorEpilogue(last, last if c_dim else 0, group=group, conv_clamp=conv_clamp)
        self.c_dim = c_dim

    def forward(self, image: Float[Tensor, "b c h w"], c: Float[Tensor, "b c"] | None = None) -> Float[Tensor, " b"]:
        """Return logits: above 0 for real."""
        x = image
        for side in self.sides:
            x = self.get_submodule(f"b{side}")(x)
        return self.b4(x, self.mapping(None, c) if self.c_dim else None)
