"""Layers of StyleGAN2 in plain torch, with the parameter names of stylegan2-ada-pytorch (Karras et al. 2020).

Weights are drawn with deviation one and scaled when they are used ("equalized learning rate"), so that checkpoints of
the reference load by name.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from common.errors import UserError

_GAIN = math.sqrt(2)

NoiseMode = Literal["random", "const", "none"]
"""Noise that is drawn when it is used, the noise that each layer keeps, or none."""


def channels_at(resolution: int, channel_base: int, channel_max: int) -> int:
    """Return the number of channels of feature maps of a size."""
    return min(channel_base // resolution, channel_max)


def check_side(key: str, side: int) -> None:
    """Check that doubling from 4 pixels leads to a side.

    Raises:
        UserError: naming the config's key, if it does not.
    """
    if side < 8 or side & (side - 1):
        raise UserError(f"{key} is {side}, should be a power of two of at least 8: StyleGAN2 doubles and halves")


def leaky(x: Tensor, gain: float = 1.0, clamp: float | None = None) -> Tensor:
    """Return leaky ReLU (.2) with StyleGAN2's gain of sqrt(2), clamped to -clamp..clamp."""
    x = functional.leaky_relu(x, 0.2) * (_GAIN * gain)
    return x if clamp is None else x.clamp(-clamp * gain, clamp * gain)


def second_moment_norm(x: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """Return vectors of mean square one."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


class FullyConnected(nn.Module):
    """A linear layer with an equalized learning rate, times `lr_multiplier`.

    Args:
        inputs: numbers in.
        outputs: numbers out.
        bias: initial value of the bias.
        is_active: whether leaky ReLU follows.
        lr_multiplier: how much slower the layer learns than the rest.
    """

    def __init__(
        self, inputs: int, outputs: int, *, bias: float = 0.0, is_active: bool = False, lr_multiplier: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((outputs,), bias))
        self.weight_gain, self.bias_gain = lr_multiplier / math.sqrt(inputs), lr_multiplier
        self.is_active = is_active

    def along(self, x: Float[Tensor, "b n p"]) -> Float[Tensor, "b m p"]:
        """Apply the layer to every point, channels first."""
        weight, bias = self.weight * self.weight_gain, self.bias * self.bias_gain
        # A weight for every sample, though the same: broadcasting would copy the points.
        x = torch.baddbmm(bias[:, None], weight.expand(len(x), -1, -1), x)
        return leaky(x) if self.is_active else x

    def forward(self, x: Float[Tensor, "b n"]) -> Float[Tensor, "b m"]:
        """Apply the layer."""
        x = functional.linear(x, self.weight * self.weight_gain, self.bias * self.bias_gain)
        return leaky(x) if self.is_active else x


def binomial_filter() -> Float[Tensor, "4 4"]:
    """Return the low-pass filter [1, 3, 3, 1] of every resampling, of sum 1."""
    line = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(line, line) / 64


def blur(x: Float[Tensor, "b c h w"], kernel: Tensor, pad: int, *, down: int = 1, gain: float = 1.0) -> Tensor:
    """Filter every channel, after padding with zeros; keep every `down`-th pixel."""
    channels = x.shape[1]
    kernel = (kernel * gain).to(x.dtype).expand(channels, 1, *kernel.shape)
    return functional.conv2d(x, kernel, padding=pad, stride=down, groups=channels)


def double(x: Float[Tensor, "b c h w"], kernel: Tensor) -> Float[Tensor, "b c 2h 2w"]:
    """Return images of twice the size, filtered."""
    channels = x.shape[1]
    kernel = (kernel * 4).to(x.dtype).expand(channels, 1, *kernel.shape)
    return functional.conv_transpose2d(x, kernel, stride=2, padding=1, groups=channels)


def modulated_conv(
    x: Float[Tensor, "b i h w"],
    weight: Float[Tensor, "o i k k"],
    styles: Float[Tensor, "b i"],
    *,
    demodulate: bool = True,
    kernel: Tensor | None = None,
) -> Float[Tensor, "b o hh ww"]:
    """Convolve with weights that every sample scales by its own style (Karras et al. 2020, section 2.2).

    Scaling input and output in place of the weights leaves one convolution for the whole batch, where a weight for
    every sample would need as many groups.

    Args:
        x: feature maps.
        weight: the weights that all samples share.
        styles: scale of every input channel.
        demodulate: whether outputs are scaled to deviation one.
        kernel: low-pass filter, for maps of twice the size; without, the size stays.
    """
    x = x * styles[:, :, None, None].to(x.dtype)
    if kernel is None:
        x = functional.conv2d(x, weight.to(x.dtype), padding=weight.shape[-1] // 2)
    else:
        x = functional.conv_transpose2d(x, weight.transpose(0, 1).to(x.dtype), stride=2)
        x = blur(x, kernel, 1, gain=4)
    if demodulate:
        power = styles.square() @ weight.square().sum(dim=(2, 3)).T
        x = x * (power + 1e-8).rsqrt()[:, :, None, None].to(x.dtype)
    return x


class SynthesisLayer(nn.Module):
    """A modulated convolution, noise, bias and leaky ReLU.

    Args:
        inputs: channels in.
        outputs: channels out.
        w_dim: size of the latent.
        resolution: side of the output.
        up: 2 for an output of twice the size, or 1.
        conv_clamp: bound of the activations' absolute values, or None.
    """

    noise_const: Tensor
    resample_filter: Tensor

    def __init__(
        self, inputs: int, outputs: int, w_dim: int, resolution: int, *, up: int = 1, conv_clamp: float | None = None
    ) -> None:
        super().__init__()
        self.affine = FullyConnected(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.register_buffer("resample_filter", binomial_filter())
        self.up, self.conv_clamp = up, conv_clamp

    def forward(
        self, x: Tensor, w: Float[Tensor, "b d"], noise: NoiseMode | Tensor = "random", gain: float = 1.0
    ) -> Tensor:
        """Apply the layer.

        Args:
            x: feature maps [b, i, h, w].
            w: latents.
            noise: "random", "const" or "none", or the noise itself, [b or 1, 1, hh, ww] of the output's size.
            gain: factor of the output.
        """
        kernel = self.resample_filter if self.up == 2 else None
        x = modulated_conv(x, self.weight, self.affine(w), kernel=kernel)
        if isinstance(noise, Tensor):
            x = x + noise.to(x.dtype) * self.noise_strength
        elif noise == "random":
            x = x + torch.randn_like(x[:, :1]) * self.noise_strength
        elif noise == "const":
            x = x + self.noise_const.to(x.dtype) * self.noise_strength
        return leaky(x + self.bias[:, None, None].to(x.dtype), gain, self.conv_clamp)


class ToRGB(nn.Module):
    """A modulated 1 x 1 convolution to an image (or planes), without demodulation."""

    def __init__(self, inputs: int, outputs: int, w_dim: int, *, conv_clamp: float | None = None) -> None:
        super().__init__()
        self.affine = FullyConnected(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.weight_gain, self.conv_clamp = 1 / math.sqrt(inputs), conv_clamp

    def forward(self, x: Tensor, w: Float[Tensor, "b d"]) -> Tensor:
        """Return the image."""
        x = modulated_conv(x, self.weight, self.affine(w) * self.weight_gain, demodulate=False)
        x = x + self.bias[:, None, None].to(x.dtype)
        return x if self.conv_clamp is None else x.clamp(-self.conv_clamp, self.conv_clamp)


class Conv2d(nn.Module):
    """A convolution with an equalized learning rate; `down` = 2 filters and halves.

    Args:
        inputs: channels in.
        outputs: channels out.
        kernel_size: side of the kernel.
        bias: whether there is one.
        is_active: whether leaky ReLU follows.
        down: 2 for an output of half the size, or 1.
        conv_clamp: bound of the activations' absolute values, or None.
    """

    resample_filter: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_size: int,
        *,
        bias: bool = True,
        is_active: bool = True,
        down: int = 1,
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.register_buffer("resample_filter", binomial_filter())
        self.weight_gain = 1 / math.sqrt(inputs * kernel_size**2)
        self.is_active, self.down, self.conv_clamp = is_active, down, conv_clamp

    def forward(self, x: Float[Tensor, "b i h w"], gain: float = 1.0) -> Tensor:
        """Apply the layer."""
        weight = (self.weight * self.weight_gain).to(x.dtype)
        side = weight.shape[-1]
        if self.down == 1:
            x = functional.conv2d(x, weight, padding=side // 2)
        elif side == 1:
            x = functional.conv2d(blur(x, self.resample_filter, 1, down=2), weight)
        else:
            x = functional.conv2d(blur(x, self.resample_filter, side // 2 + 1), weight, stride=2)
        if self.bias is not None:
            x = x + self.bias[:, None, None].to(x.dtype)
        if self.is_active:
            return leaky(x, gain, self.conv_clamp)
        x = x * gain
        return x if self.conv_clamp is None else x.clamp(-self.conv_clamp * gain, self.conv_clamp * gain)
