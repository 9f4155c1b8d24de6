"""StyleGAN2's mapping and synthesis, module for module those of stylegan2-ada-pytorch."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from networks.distributed import gather_rows
from networks.gan.stylegan2.layers import (
    FullyConnected,
    NoiseMode,
    SynthesisLayer,
    ToRGB,
    binomial_filter,
    channels_at,
    double,
    second_moment_norm,
)
from networks.precision import single_precision

Noise = NoiseMode | Sequence[Tensor]
"""The noise of a network: a mode, or a tensor [b or 1, 1, h, w] for each of its convolutions, in their order."""


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
        for k in range(layers):
            layer = FullyConnected(w_dim if k else first, w_dim, is_active=True, lr_multiplier=0.01)
            self.add_module(f"fc{k}", layer)
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
        for k in range(self.layers):
            w = self.get_submodule(f"fc{k}")(w)
        return w

    @torch.no_grad()
    def follow(self, w: Float[Tensor, "b w"]) -> None:
        """Update the moving average with the w of the global batch; every process must hold equally many."""
        self.w_avg.lerp_(gather_rows(w.float()).mean(dim=0), 1 - self.average_decay)


class SynthesisBlock(nn.Module):
    """Two modulated convolutions, of which the first doubles the size, and a sum of images ("skip" architecture).

    Args:
        inputs: channels in; 0 for the first block, which starts from a constant.
        outputs: channels out.
        w_dim: size of the latent.
        resolution: side of the output.
        image_channels: channels of the image.
        up: 2, or 1 for a block that keeps the size (of a super-resolution).
        conv_clamp: bound of the activations' absolute values, or None.
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
        self, x: Tensor | None, image: Tensor | None, ws: Float[Tensor, "b n w"], noise: Noise = "random"
    ) -> tuple[Tensor, Tensor]:
        """Return feature maps and image; `ws` are the latents of the convolutions and of the image."""
        of_layers = [noise] * self.convolutions if isinstance(noise, str) else noise
        x = self.const.expand(len(ws), -1, -1, -1) if self.convolutions == 1 else self.conv0(x, ws[:, 0], of_layers[0])
        x = self.conv1(x, ws[:, self.convolutions - 1], of_layers[-1])
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
        channel_max: bound of the channels.
        conv_clamp: bound of the activations' absolute values, or None.
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

    @property
    def noise_sides(self) -> list[int]:
        """Side of the noise of each convolution, in their order."""
        return [self.sides[0], *(side for side in self.sides[1:] for _ in range(2))]

    def forward(self, ws: Float[Tensor, "b n w"], noise: Noise = "random") -> Float[Tensor, "b c h w"]:
        """Return the image.

        Args:
            ws: latents, one for every layer.
            noise: "random", "const" or "none", or a tensor for each of `noise_sides` (see `draw_noise`), so that
                several passes can share what was drawn.

        Raises:
            ValueError: if there are more or fewer tensors of noise than convolutions.
        """
        if not isinstance(noise, str) and len(noise) != len(self.noise_sides):
            raise ValueError(f"noise has {len(noise)} tensors, should have {len(self.noise_sides)}")
        x, image, start = None, None, 0
        for side in self.sides:
            block = self.get_submodule(f"b{side}")
            assert isinstance(block, SynthesisBlock)
            end = start + block.convolutions
            x, image = block(x, image, ws[:, start : end + 1], noise if isinstance(noise, str) else noise[start:end])
            start = end
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
        channel_max: bound of the channels.
        conv_clamp: bound of the activations' absolute values, or None.
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
        self, z: Float[Tensor, "b z"], c: Float[Tensor, "b c"] | None = None, noise: Noise = "random"
    ) -> Float[Tensor, "b c h w"]:
        """Return images of z; `noise` as in `SynthesisNetwork.forward`."""
        return self.synthesis(self.latents(self.mapping(z, c)), noise)

    def latents(self, w: Float[Tensor, "b w"]) -> Float[Tensor, "b n w"]:
        """Return the same w for every layer."""
        return w[:, None].expand(-1, self.synthesis.num_ws, -1)
