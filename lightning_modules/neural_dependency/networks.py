"""The classifiers whose logits are read: a small convolutional net, an MLP, and any timm model by name.

All are split in the same way, into `backbone` (images to features z [b, d]) and `head` (a linear layer, f = W z + b).
"""

from collections import OrderedDict
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn

from common.errors import UserError
from networks.backbones import feature_size
from networks.small_conv_net import SmallConvNet


class NetworkOptions(TypedDict):
    """Which classifier, and from where its weights come.

    `name` is `small` (three blocks of convolution, 256 features), `mlp` (768-512-256 on 16 x 16 colour images) or a
    timm model, or `run`: what an earlier run trained, see `earlier_run.py`. `weights` is null (untrained), a
    checkpoint of this project (`.ckpt`, or the folder of its run), a file that timm reads with its classifier
    (`.safetensors`, `.pth`), or `hub` (timm fetches its own).
    """

    name: str
    weights: str | None


class SourceOptions(NetworkOptions):
    """A second classifier, and how many categories it knows."""

    num_classes: int


class Perceptron(nn.Sequential):
    """Flattened images through two layers of 512 and 256 units with batch norm and ReLU (spec section 6)."""

    num_features = 256

    def __init__(self, in_channels: int, image_size: int) -> None:
        widths = (in_channels * image_size**2, 512, self.num_features)
        # No bias before a batch norm: its gradient is rounding noise, which Adam would blow up to whole steps.
        layers = [nn.Sequential(nn.Linear(a, b, bias=False), nn.BatchNorm1d(b), nn.ReLU()) for a, b in pairwise(widths)]
        super().__init__(OrderedDict(flat=nn.Flatten(), layer1=layers[0], layer2=layers[1]))


class Classifier(nn.Module):
    """A backbone and its linear head; features and logits are float32 at least, whatever autocast computes inside.

    Args:
        backbone: images [b, c, h, w] to features [b, d].
        head: features to logits.
    """

    def __init__(self, backbone: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward_features(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Return the features z that the head reads."""
        features = self.backbone(images)
        return features.to(torch.promote_types(features.dtype, torch.float32))

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Return the logits f, before any softmax."""
        return self.classify(self.forward_features(images))

    def classify(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        """Return the logits of features."""
        # Second moments of logits in half precision are too coarse for the solver (trap 8).
        with torch.autocast(features.device.type, enabled=False):
            return self.head(features)


def build_network(name: str, num_classes: int, in_channels: int, image_size: int) -> Classifier:
    """Return an untrained classifier.

    Args:
        name: see `NetworkOptions`.
        num_classes: number K of logits.
        in_channels: channels of the images.
        image_size: side of the images in pixels (timm models keep their own where they are built for one).

    Raises:
        UserError: if there is no such network, or it has no linear head.
    """
    if name == "mlp":
        return Classifier(Perceptron(in_channels, image_size), nn.Linear(Perceptron.num_features, num_classes))
    if name == "small":
        try:
            backbone = SmallConvNet(in_channels, image_size)
        except UserError as error:
            raise UserError(str(error)) from None
        return Classifier(backbone, nn.Linear(feature_size(backbone), num_classes))
    # timm takes a second to import, which no paper's own net should pay.
    import timm

    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name[:6]}*")[:5])
        raise UserError(f"there is no network '{name}': take small, mlp or a timm model{near and f', such as {near}'}")
    return _split(timm.create_model(name, pretrained=False, num_classes=num_classes, in_chans=in_channels), name)


def _split(model: Any, name: str) -> Classifier:
    """Take the classifier off a timm model, which then returns features."""
    layer = model.get_classifier()
    if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1):
        head = nn.Linear(layer.in_channels, layer.out_channels, bias=layer.bias is not None)
        head.load_state_dict(
            {key: value.flatten(1) if value.ndim > 1 else value for key, value in layer.state_dict().items()}
        )
    elif isinstance(layer, nn.Linear):
        head = layer
    else:
        raise UserError(f"model.network.name: the classifier of {name} is not one linear layer, so f = W z + b fails")
    model.reset_classifier(0)
    return Classifier(model, head)


def load_network(network: Classifier, options: NetworkOptions) -> None:
    """Load trained weights, head included, into a classifier from `build_network`; nothing to do for null.

    Raises:
        UserError: if there is no such file, or it holds the weights of another network.
    """
    name, weights = options["name"], options["weights"]
    if weights is None:
        return
    path = Path(weights)
    if weights != "hub" and path.is_dir():
        path = path / "checkpoints" / "best.ckpt"
    if weights != "hub" and not path.is_file():
        raise UserError(f"model.network.weights: there is no file {path}")
    if weights == "hub" and name in {"small", "mlp"}:
        raise UserError(f"model.network.weights: nobody publishes weights of {name}: give a path, or null")
    try:
        network.load_state_dict(_tensors(network, name, None if weights == "hub" else path))
    except (AttributeError, KeyError, RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"model.network.weights: {weights} does not fit network {name}: {reason}") from error


def _tensors(network: Classifier, name: str, path: Path | None) -> Mapping[str, Tensor]:
    if path is not None and path.suffix == ".ckpt":
        return own_weights(path)
    import timm
    from timm.models import load_state_dict as read_weights

    if path is not None and name in {"small", "mlp"}:
        return read_weights(str(path), weights_only=True)
    config: Any = network.backbone.pretrained_cfg
    if path is None:
        # For another number of classes timm would start a new head, whose logits mean nothing.
        if config["num_classes"] != network.head.out_features:
            raise ValueError(f"its logits are {config['num_classes']}, not {network.head.out_features}")
        return _split(timm.create_model(name, pretrained=True), name).state_dict()
    mark = f"{config['classifier']}."
    tensors = read_weights(str(path), weights_only=True)
    head = {f"head.{k.removeprefix(mark)}": v for k, v in tensors.items() if k.startswith(mark)}
    # A classifier may be kept as a convolution of one pixel.
    head = {k: v.flatten(1) if v.ndim > 1 else v for k, v in head.items()}
    return head | {f"backbone.{k}": v for k, v in tensors.items() if not k.startswith(mark)}


def own_weights(path: Path) -> dict[str, Tensor]:
    """Return backbone and head of a checkpoint of this project, whatever paper wrote it and what else it holds."""
    tensors = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    bare = {key.removeprefix("network."): value for key, value in tensors.items()}
    return {key: value for key, value in bare.items() if key.startswith(("backbone.", "head."))}
