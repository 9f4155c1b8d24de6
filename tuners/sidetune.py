"""Side-tuning (Zhang et al. 2020, arXiv 1912.13503): a small network beside the frozen one, mixed with its features."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from common.errors import UserError
from tuners.hooks import SiteHook, first_input
from tuners.reach import run
from tuners.sites import Patterns, like
from tuners.tuner import Tuner

# Of the four convolutions of the released FCN4 (u_tuning §2.5): channels, stride, padding.
LAYERS = ((16, 1, 1), (16, 2, 0), (32, 2, 0), (64, 1, 0))
SMALLEST = 15


class Side(SiteHook):
    """Mixes features F(x) of the frozen network with those of its own, S(x): a F(x) + (1 - a) S(x), a = sigmoid(alpha).

    Args:
        channels: of the image.
        dim: of the features.
        place: device and precision.
    """

    def __init__(self, channels: int, dim: int, place: Mapping[str, Any]) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for out, stride, padding in LAYERS:
            convolution = nn.Conv2d(channels, out, 3, stride=stride, padding=padding, bias=False, **place)
            parts += [convolution, nn.GroupNorm(2, out, **place), nn.ReLU()]
            channels = out
        self.network = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, dim, **place))
        self.alpha = nn.Parameter(torch.zeros((), **place))

    def on_output(
        self, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], output: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b d"]:
        """Return the mixed features."""
        image: Float[Tensor, "b c h w"] = first_input(args, kwargs)
        share = self.alpha.sigmoid()
        return (share * output + (1 - share) * self.network(image.to(self.alpha.dtype))).to(output.dtype)


class SideTune(Tuner):
    """A four-layer convolutional network on the image, mixed with the features that `forward` returns.

    Our reading of the released SideTune (u_tuning §2.5), a sigmoid(alpha) mix with a 4-layer FCN: alpha is one number
    that starts at zero (an even mix), and what is mixed is the one feature vector per image that the head reads.

    Args:
        lr: learning rate of the side network and alpha.
    """

    def _attach(
        self, backbone: nn.Module, example: Sequence[Any], keywords: Mapping[str, Any], patterns: Patterns
    ) -> None:
        with torch.no_grad():
            features = run(backbone, example, keywords)
        image = first_input(example, keywords)
        if image.ndim != 4 or not isinstance(features, Tensor) or features.ndim != 2:
            raise UserError(
                f"sidetune goes from an image to one feature vector, which {type(backbone).__name__} does not:"
                " use tuner=u_block, or give the network with its pooling"
            )
        if min(image.shape[-2:]) < SMALLEST:
            raise UserError(f"sidetune's four layers need images of {SMALLEST} pixels and more: use tuner=u_block")
        self.side = Side(image.shape[1], features.shape[1], like(backbone))
        self.side.hook_output(backbone)
