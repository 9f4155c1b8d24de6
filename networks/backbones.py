"""Backbones of the libraries: any timm model, any visual tower of open_clip; their weights by path."""

from pathlib import Path
from typing import Any, TypedDict, cast

import torch
from torch import Tensor, nn

from common.errors import UserError

_OPEN_CLIP = "open_clip:"


class Backbone(TypedDict):
    """What gives the features.

    `name` is a paper's own small net, a timm model, or `open_clip:` with a model of open_clip, whose visual tower is
    taken. `weights` is null (untrained), a checkpoint of this project (`.ckpt`), a file that timm or open_clip reads
    (`.npz`, `.safetensors`, `.pth`, `.pt`), or `hub` (the library fetches its own).
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
        return _open_clip_tower(name.removeprefix(_OPEN_CLIP), None)
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


def _open_clip_tower(name: str, weights: str | None) -> nn.Module:
    import open_clip

    if name not in open_clip.list_models():
        raise UserError(f"there is no model '{name}' in open_clip, such as ViT-B-16-quickgelu")
    return open_clip.create_model(name, pretrained=weights).visual


def feature_size(backbone: nn.Module) -> int:
    """Return the number d of features."""
    for attribute in ("head_hidden_size", "num_features", "output_dim"):
        if getattr(backbone, attribute, None):
            return int(getattr(backbone, attribute))
    raise UserError(f"{type(backbone).__name__} does not say how many features it has")


def load_weights(backbone: nn.Module, name: str, weights: str, mark: str) -> None:
    """Load pre-trained weights into a backbone; a classifier that comes with them is left out.

    Args:
        backbone: the backbone to fill.
        name: the backbone's name.
        weights: a path, or `hub` for what the library publishes under `name`.
        mark: what the backbone's keys begin with in a checkpoint of this project.

    Raises:
        UserError: if there is no such file, or it holds the weights of another network.
    """
    if weights != "hub" and not Path(weights).is_file():
        raise UserError(f"model.backbone.weights: there is no file {weights}")
    try:
        if weights.endswith(".npz"):
            # timm's own reader of Google's layouts.
            cast(Any, backbone).load_pretrained(weights)
        else:
            backbone.load_state_dict(_tensors(backbone, name, weights, mark))
    except (AttributeError, KeyError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"model.backbone.weights: {weights} does not fit backbone {name}: {reason}") from error


def _tensors(backbone: nn.Module, name: str, weights: str, mark: str) -> dict[str, Tensor]:
    if weights.endswith(".ckpt"):
        tensors = torch.load(weights, map_location="cpu", weights_only=True)["state_dict"]
        return {key.removeprefix(mark): value for key, value in tensors.items() if key.startswith(mark)}
    if name.startswith(_OPEN_CLIP):
        pretrained = "openai" if weights == "hub" else weights
        return _open_clip_tower(name.removeprefix(_OPEN_CLIP), pretrained).state_dict()
    import timm
    from timm.models import load_state_dict

    if weights == "hub":
        return timm.create_model(name, pretrained=True, num_classes=0).state_dict()
    classifier = classifier_name(backbone)
    return {k: v for k, v in load_state_dict(weights, weights_only=True).items() if not k.startswith(f"{classifier}.")}


def classifier_name(backbone: nn.Module) -> str:
    """Return under which name the library's own classifier stands in a checkpoint of this backbone."""
    return str((getattr(backbone, "pretrained_cfg", None) or {}).get("classifier") or "head")
