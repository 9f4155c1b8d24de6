"""The oracle: a network that was trained on a renderer's truth, for evaluation only (§6.1).

It predicts the normals of the object in a generated image, with which the generator's own depth is compared. It shares
neither weights nor images with any network that it evaluates.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from common.errors import UserError
from networks.weights.fitting import fit
from networks.weights.forms import read_weights

_KEY = "model.evaluation.oracle"


class NormalPrediction(NamedTuple):
    """What is predicted from b images: unit normals [b, h, w, 3] and the object's mask [b, h, w] of 0 and 1."""

    normals: Tensor
    mask: Tensor


def _layer(a: int, b: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(a, b, 3, stride=stride, padding=1), nn.GroupNorm(8, b), nn.SiLU())


class NormalOracle(nn.Module):
    """A U-Net from images to normals and mask.

    Args:
        width: channels at full size, a multiple of 8.

    Raises:
        UserError: if it is not.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        if width < 8 or width % 8:
            raise UserError(f"width is {width}, should be a multiple of 8")
        widths = [width, 2 * width, 3 * width, 3 * width]
        self.first = nn.Sequential(_layer(3, width), _layer(width, width))
        self.down = nn.ModuleList(nn.Sequential(_layer(a, b, stride=2), _layer(b, b)) for a, b in pairwise(widths))
        self.up = nn.ModuleList(nn.Sequential(_layer(a + b, b), _layer(b, b)) for a, b in pairwise(widths[::-1]))
        self.last = nn.Conv2d(width, 4, 1)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b h w 3"], Float[Tensor, "b h w"]]:
        """Return unit normals and the logits of the mask; the side is a multiple of 8."""
        x, skips = self.first(image), []
        for down in self.down:
            skips.append(x)
            x = down(x)
        for up in self.up:
            skip = skips.pop()
            x = functional.interpolate(x, skip.shape[-2:], mode="nearest")
            x = up(torch.cat([x, skip], dim=1))
        out = self.last(x).float()
        return functional.normalize(out[:, :3].permute(0, 2, 3, 1), dim=-1), out[:, 3]

    def predict(self, image: Float[Tensor, "b 3 h w"]) -> NormalPrediction:
        """Return normals and mask of images in -1..1."""
        normals, logits = self(image)
        return NormalPrediction(normals, (logits > 0).float())


def load_oracle(path: str) -> NormalOracle:
    """Return the frozen network of a checkpoint of the experiment that trains it.

    Raises:
        UserError: if the file is missing or holds no oracle.
    """
    weights = read_weights(path, _KEY, "a checkpoint of an oracle, or run:experiment=NAME")
    hparams = weights.content.get("hyper_parameters", {})
    if "width" not in hparams:
        raise UserError(f"{_KEY}: {path} is not a checkpoint of an oracle, but {weights.form}")
    oracle = NormalOracle(hparams["width"])
    fit(oracle, weights, f"{_KEY}: {path} is not a checkpoint of an oracle", only_parts=True)
    return oracle.eval().requires_grad_(False)
