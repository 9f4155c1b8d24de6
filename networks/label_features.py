"""A small network that reads a procedural world's labels; its features stand in for Inception's."""

from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from common.errors import UserError
from networks.weights.fitting import fit
from networks.weights.forms import read_weights

_KEY = "model.evaluation.features"


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


def load_label_features(path: str | None, in_channels: int) -> LabelFeatures | None:
    """Return the frozen network of a checkpoint whose module keeps it as `network`; None without a path.

    Args:
        path: a checkpoint of the experiment that trains such a network.
        in_channels: channels of the images it will see.

    Raises:
        UserError: if the file is not there, holds no such network, or one for other images.
    """
    if not path:
        return None
    weights = read_weights(path, _KEY, "a checkpoint of a label network, or run:experiment=NAME")
    hparams = weights.content.get("hyper_parameters", {})
    if "label_sizes" not in hparams:
        raise UserError(f"{_KEY}: {path} is not a checkpoint of a label network, but {weights.form}")
    if hparams["in_channels"] != in_channels:
        raise UserError(f"{_KEY}: {path} sees {hparams['in_channels']} channels, images have {in_channels}")
    network = LabelFeatures(in_channels, hparams["label_sizes"], hparams["width"])
    fit(network, weights, f"{_KEY}: {path} is not a checkpoint of a label network", only_parts=True)
    return network.eval().requires_grad_(False)
