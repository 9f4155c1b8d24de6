"""A small network that reads a procedural world's labels; its features stand in for Inception's."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from common.errors import UserError


class LabelFeatures(nn.Module):
    """Four convolutions of stride two, a mean over positions, and a linear reading of every label.

    Args:
        in_channels: channels of the images.
        label_sizes: number of classes of every label.
        width: number of features, a multiple of 16.

    Raises:
        UserError: if it is not.
    """

    def __init__(self, in_channels: int, label_sizes: Sequence[int], width: int = 64) -> None:
        super().__init__()
        if width < 1 or width % 16:
            raise UserError(f"width is {width}, should be a multiple of 16")
        self.in_channels, self.label_sizes, self.num_features = in_channels, list(label_sizes), width
        widths = (in_channels, width // 4, width // 2, width, width)
        layers = [(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.GroupNorm(4, b), nn.SiLU()) for a, b in pairwise(widths)]
        self.body = nn.Sequential(*(part for layer in layers for part in layer))
        self.readings = nn.Linear(width, sum(label_sizes))

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Return the features of images in -1..1."""
        return self.body(images).mean(dim=(2, 3))

    def logits(self, images: Float[Tensor, "b c h w"]) -> list[Tensor]:
        """Return the logits [b, classes] of every label."""
        return list(self.readings(self(images)).split(self.label_sizes, dim=1))


def load_label_features(path: str, in_channels: int) -> LabelFeatures:
    """Return the frozen network of a checkpoint whose module keeps it as `network`.

    Args:
        path: a checkpoint of the experiment that trains such a network.
        in_channels: channels of the images it will see.

    Raises:
        UserError: if the file is not there, holds no such network, or one for other images.
    """
    if not Path(path).is_file():
        raise UserError(f"evaluation.features: no file {path}")
    content: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    told = content.get("hyper_parameters", {})
    state = {
        name.removeprefix("network."): value
        for name, value in content.get("state_dict", {}).items()
        if name.startswith("network.")
    }
    if "label_sizes" not in told or not state:
        raise UserError(f"evaluation.features: {path} is not a checkpoint of a label network")
    if told["in_channels"] != in_channels:
        raise UserError(f"evaluation.features: {path} sees {told['in_channels']} channels, images have {in_channels}")
    network = LabelFeatures(in_channels, told["label_sizes"], told["width"])
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)
