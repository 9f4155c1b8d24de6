"""The five networks of the inverse renderer, module for module those of Unsup3D, so that its checkpoints load.

All are made for images of 64 pixels (geod §2.2); other powers of two have more or fewer halvings.
"""

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

_CHANNELS_IN_GROUP = 4


def _halve(a: int, b: int) -> nn.Conv2d:
    return nn.Conv2d(a, b, 4, stride=2, padding=1, bias=False)


def _double(a: int, b: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(a, b, 4, stride=2, padding=1, bias=False)


def _same(a: int, b: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(a, b, kernel, padding=kernel // 2, bias=False)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // _CHANNELS_IN_GROUP, channels)


def _widths(size: int, width: int) -> list[int]:
    """Return the channels after every halving down to 4 pixels: width, twice that, and so on."""
    return [width * 2**k for k in range(int(math.log2(size)) - 2)]


def _code(widths: Sequence[int], code: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for stage, (a, b) in enumerate(zip((3, *widths[:-1]), widths, strict=True)):
        norm = [_norm(b)] if stage < len(widths) - 1 else []
        layers += [_halve(a, b), *norm, nn.LeakyReLU(0.2, inplace=True)]
    return [*layers, nn.Conv2d(widths[-1], code, 4, bias=False), nn.ReLU(inplace=True)]


class VectorEncoder(nn.Module):
    """Predicts a short vector from an image: light (4 numbers) or view (6), each in -1..1."""

    def __init__(self, size: int, numbers: int, width: int) -> None:
        super().__init__()
        widths = _widths(size, width)
        layers: list[nn.Module] = []
        for a, b in zip((3, *widths[:-1]), widths, strict=True):
            layers += [_halve(a, b), nn.ReLU(inplace=True)]
        last = widths[-1]
        layers += [nn.Conv2d(last, last, 4, bias=False), nn.ReLU(inplace=True)]
        self.network = nn.Sequential(*layers, nn.Conv2d(last, numbers, 1, bias=False), nn.Tanh())

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n"]:
        """Return the numbers."""
        return self.network(image).flatten(1)


class MapDecoder(nn.Module):
    """Predicts a map of the image's size through a narrow code: depth (1 channel, unbounded) or albedo (3, -1..1)."""

    def __init__(self, size: int, channels: int, width: int, code: int, *, bounded: bool) -> None:
        super().__init__()
        widths = _widths(size, width)
        last = widths[-1]
        layers = [*_code(widths, code), nn.ConvTranspose2d(code, last, 4, bias=False), nn.ReLU(inplace=True)]
        layers += [_same(last, last), nn.ReLU(inplace=True)]
        for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True):
            layers += [_double(a, b), _norm(b), nn.ReLU(inplace=True), _same(b, b), _norm(b), nn.ReLU(inplace=True)]
        layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
        for kernel in (3, 5):
            layers += [_same(width, width, kernel), _norm(width), nn.ReLU(inplace=True)]
        layers += [_same(width, channels, 5), *([nn.Tanh()] if bounded else [])]
        self.network = nn.Sequential(*layers)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        """Return the map."""
        return self.network(image)


class ConfidenceDecoder(nn.Module):
    """Predicts how sure the reconstruction is: deviations of pixels, and of features a quarter the size.

    Channel 0 is for the image as it is, channel 1 for its mirrored hypothesis.
    """

    def __init__(self, size: int, width: int, code: int) -> None:
        super().__init__()
        widths = _widths(size, width)
        layers = [*_code(widths, code), nn.ConvTranspose2d(code, widths[-1], 4, bias=False), nn.ReLU(inplace=True)]
        for a, b in zip(widths[:1:-1], widths[-2:0:-1], strict=True):
            layers += [_double(a, b), _norm(b), nn.ReLU(inplace=True)]
        self.network = nn.Sequential(*layers)
        half = widths[1]
        pixels: list[nn.Module] = [_double(half, width), _norm(width), nn.ReLU(inplace=True)]
        pixels += [_double(width, width), _norm(width), nn.ReLU(inplace=True)]
        self.out_net1 = nn.Sequential(*pixels, _same(width, 2, 5), nn.Softplus())
        self.out_net2 = nn.Sequential(_same(half, 2), nn.Softplus())

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b 2 h w"], Float[Tensor, "b 2 h/4 w/4"]]:
        """Return the deviations of pixels and of features, both above 0."""
        features = self.network(image)
        return self.out_net1(features), self.out_net2(features)
