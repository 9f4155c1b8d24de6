"""Backbones of the libraries: any timm model, any visual tower of open_clip; their weights by path."""

from functools import cache
from pathlib import Path
from typing import Any, TypedDict

from torch import nn

from common.errors import UserError, first_reason
from common.pixel_statistics import Statistics
from networks.clip.pretrained import clip_normalization, clip_weights, fit_clip
from networks.weights.fitting import fit
from networks.weights.forms import Weights, check_file, read_weights

_OPEN_CLIP = "open_clip:"
_KEY = "model.backbone.weights"


class Backbone(TypedDict):
    """What gives the features.

    `name` is a paper's own small net, a timm model, or `open_clip:` with a model of open_clip, whose visual tower is
    taken. `weights` is null (untrained), a path (a checkpoint of this project, or any form that `networks.weights`
    reads), or `hub` (the library fetches its own).
    """

    name: str
    weights: str | None


def build_backbone(name: str, in_channels: int, image_size: int, own: str) -> nn.Module:
    """Return an untrained backbone: images [b, c, h, w] to features [b, d], without a classifier.

    Args:
        name: a timm model, or `open_clip:` with a model of open_clip.
        in_channels: channels of the images.
        image_size: side of the images in pixels.
        own: name of the paper's own net, to be told to a user who asks for one that does not exist.

    Raises:
        UserError: if there is no such backbone.
    """
    if name.startswith(_OPEN_CLIP):
        return _open_clip_tower(name.removeprefix(_OPEN_CLIP))
    # timm takes a second to import, which no paper's own net should pay.
    import timm

    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name[:6]}*")[:5])
        raise UserError(f"there is no backbone '{name}': take {own} or a timm model{near and f', such as {near}'}")
    try:
        return timm.create_model(name, img_size=image_size, num_classes=0, in_chans=in_channels)
    except TypeError:
        # Convolutional nets are not built for one size of image.
        return timm.create_model(name, num_classes=0, in_chans=in_channels)


def _open_clip_tower(name: str) -> nn.Module:
    import open_clip

    if name not in open_clip.list_models():
        raise UserError(f"there is no model '{name}' in open_clip, such as ViT-B-16-quickgelu")
    return open_clip.create_model(name, load_weights=False).visual


@cache
def normalization(name: str, own: tuple[str, ...]) -> Statistics | None:
    """Return mean and deviation by channel, of images in 0..1, that a backbone's published weights were trained with.

    Args:
        name: a paper's own net, or see `Backbone`.
        own: names of the paper's own nets, which take images in -1..1: None.
    """
    if name in own:
        return None
    if name.startswith(_OPEN_CLIP):
        return clip_normalization(name.removeprefix(_OPEN_CLIP))
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(name)
    return (tuple(config.mean), tuple(config.std)) if config else None


def feature_size(backbone: nn.Module) -> int:
    """Return the number d of features."""
    for attribute in ("head_hidden_size", "num_features", "output_dim"):
        if getattr(backbone, attribute, None):
            return int(getattr(backbone, attribute))
    raise UserError(f"{type(backbone).__name__} does not say how many features it has")


def linear_head(backbone: nn.Module, num_classes: int, *, starts_at_zero: bool = False) -> nn.Linear:
    """Return an untrained linear head: features [b, d] of a backbone to logits [b, k].

    Args:
        backbone: what gives the features.
        num_classes: number k of logits.
        starts_at_zero: whether all logits start at zero, so that a pre-trained backbone is not disturbed at first.
    """
    head = nn.Linear(feature_size(backbone), num_classes)
    if starts_at_zero:
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    return head


def load_weights(backbone: nn.Module, name: str, weights: str) -> None:
    """Load pre-trained weights into a backbone; a classifier that comes with them is left out.

    Args:
        backbone: the backbone to fill.
        name: the backbone's name.
        weights: a path, or `hub` for what the library publishes under `name`.

    Raises:
        UserError: if there is no such file, or it holds the weights of another network.
    """
    if name.startswith(_OPEN_CLIP):
        model = name.removeprefix(_OPEN_CLIP)
        fit_clip(backbone, name, clip_weights(model, "openai" if weights == "hub" else weights, _KEY), _KEY)
        return
    if weights == "hub":
        given = published(name, _KEY)
    elif Path(weights).suffix == ".npz" and hasattr(backbone, "load_pretrained"):
        _load_google_arrays(backbone, name, weights)
        return
    else:
        given = read_weights(weights, _KEY, _wanted(name))
    classifier = f"{classifier_name(backbone)}."
    refusal = f"{_KEY}: {weights} does not fit backbone {name}"
    fit(backbone, given, refusal, is_unused=lambda tensor: tensor.startswith(classifier))


def _wanted(name: str) -> str:
    return f"weights of {name}: give a file of them, or hub, which lets timm fetch them"


def published(name: str, key: str, num_classes: int = 0) -> Weights:
    """Return the weights that timm publishes for a model, fetched by timm; without a classifier unless it is told.

    Raises:
        UserError: if timm publishes none, or they cannot be fetched; `key` is the key of the config that asks for them.
    """
    import timm

    try:
        model = timm.create_model(name, pretrained=True, num_classes=num_classes)
    except Exception as error:  # noqa: BLE001 - what a hub client raises is many-fold
        raise UserError(f"{key}: hub: weights of {name} cannot be fetched: {first_reason(error)}") from None
    return Weights(name, "what timm publishes", model.state_dict(), {})


def _load_google_arrays(backbone: Any, name: str, weights: str) -> None:
    """Load a file in a layout of Google's, which timm translates."""
    check_file(weights, _KEY, _wanted(name))
    try:
        backbone.load_pretrained(weights)
    except (AttributeError, KeyError, RuntimeError, ValueError) as error:
        raise UserError(f"{_KEY}: {weights} does not fit backbone {name}: {first_reason(error)}") from None


def classifier_name(backbone: nn.Module) -> str:
    """Return under which name the library's own classifier stands in a checkpoint of this backbone."""
    return str((getattr(backbone, "pretrained_cfg", None) or {}).get("classifier") or "head")
