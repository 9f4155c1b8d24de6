"""The classifiers whose logits are read: a small convolutional net, an MLP, and any timm model by name.

All are split in the same way, into `backbone` (images to features z [b, d]) and `head` (a linear layer, f = W z + b).
"""

from collections import OrderedDict
from itertools import pairwise
from typing import Any, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn

from common.errors import UserError
from common.pixel_statistics import Statistics
from common.ranges import PositiveInt
from networks.backbones import linear_head, published
from networks.precision import single_precision
from networks.small_conv_net import SmallConvNet
from networks.weights.fitting import fit, select
from networks.weights.forms import Weights, read_weights

_KEY = "model.network.weights"
# What trainers call the last layer.
_HEADS = ("head", "fc", "classifier", "last_linear", "head_dist")


class NetworkOptions(TypedDict):
    """Which classifier, and from where its weights come.

    `name` is `small` (three blocks of convolution, 256 features), `mlp` (768-512-256 on 16 x 16 colour images) or a
    timm model, or `run`: what an earlier run trained, see `earlier_run.py`. `weights` is null (untrained), a
    checkpoint of this project (or the folder of its run), any form that `networks.weights` reads, with the classifier,
    or `hub` (timm fetches its own).
    """

    name: str
    weights: str | None


class SourceOptions(NetworkOptions):
    """A second classifier, and how many categories it knows."""

    num_classes: PositiveInt


class Perceptron(nn.Sequential):
    """Flattened images through two layers of 512 and 256 units with batch norm and ReLU (§3.1)."""

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
        normalization: mean and deviation, of images in 0..1, of what it was trained on; None for images in -1..1.
    """

    def __init__(self, backbone: nn.Module, head: nn.Linear, normalization: Statistics | None = None) -> None:
        super().__init__()
        self.backbone, self.head, self.normalization = backbone, head, normalization

    def forward_features(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Return the features z that the head reads."""
        features = self.backbone(images)
        return features.to(torch.promote_types(features.dtype, torch.float32))

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Return the logits f, before any softmax."""
        return self.classify(self.forward_features(images))

    def classify(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        """Return the logits of features."""
        # Second moments of logits in half precision are too coarse for the solver (§2.1).
        with single_precision(features):
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
        backbone = SmallConvNet(in_channels, image_size)
        return Classifier(backbone, linear_head(backbone, num_classes))
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

    Args:
        network: the classifier to fill.
        options: see `NetworkOptions`.

    Raises:
        UserError: if there is no such file, or it holds the weights of another network.
    """
    name, weights = options["name"], options["weights"]
    if weights is None:
        return
    refusal = f"{_KEY}: {weights} does not fit network {name}"
    if name in {"small", "mlp"}:
        if weights == "hub":
            raise UserError(f"{_KEY}: nobody publishes weights of {name}: give a path, or null")
        fit(network, read_weights(weights, _KEY), refusal, only_parts=True)
        return
    wanted = f"weights of {name} with its classifier: give a file of them, or hub, which lets timm fetch them"
    config: Any = network.backbone.pretrained_cfg
    known = config["num_classes"]
    # For another number of classes timm would start a new head, whose logits mean nothing.
    if weights == "hub" and known != network.head.out_features:
        raise UserError(f"{refusal}: its logits are {known}, not {network.head.out_features}")
    given = published(name, _KEY, known) if weights == "hub" else read_weights(weights, _KEY, wanted)
    fit(network, _as_classifier(network, given, str(config["classifier"])), refusal, only_parts=True)


def _as_classifier(network: Classifier, weights: Weights, classifier: str) -> Weights:
    """Return weights of a whole timm model, whose linear layer is called `classifier`, as of backbone and head.

    A checkpoint of this project has these parts already.
    """
    backbone = network.backbone.state_dict()
    chosen = select(weights, backbone)
    if chosen.prefix.endswith("backbone."):
        return weights
    # Some trainers give the last layer another name.
    mark = next((f"{name}." for name in (classifier, *_HEADS) if f"{name}.weight" in chosen.tensors), f"{classifier}.")
    head = {f"head.{k.removeprefix(mark)}": v for k, v in chosen.tensors.items() if k.startswith(mark)}
    # A classifier may be kept as a convolution of one pixel.
    head = {k: v.flatten(1) if v.ndim > 1 else v for k, v in head.items()}
    body = {f"backbone.{k}": v for k, v in chosen.tensors.items() if k in backbone or k.split(".")[0] not in _HEADS}
    return weights._replace(tensors=head | body, is_average=chosen.is_average)
