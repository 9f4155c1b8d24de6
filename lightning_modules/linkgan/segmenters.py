"""Frozen segmenters, by which a region is a semantic class instead of a box (§2.1)."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Protocol, TypedDict

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from common.errors import UserError, first_reason, suggestion
from common.pixel_statistics import IMAGENET_MEAN, IMAGENET_STD
from common.ranges import PositiveInt
from networks.precision import single_precision
from networks.weights.fitting import fit
from networks.weights.forms import read_weights

_KEY = "model.segmenter.path"


class SegmenterOptions(TypedDict):
    """What says which class a pixel has.

    `kind`: "small", a network that `linkgan_segmenter` has trained on a procedural world's segmentation, or
    "transformers", a folder of a model for semantic segmentation, such as SegFormer of ADE20K. `path`: the checkpoint
    or the folder; null, where data have none, is refused once a region needs it. `classes`: names of the classes by
    number, or null for those that the folder names. `size`: side that images are resized to for a model of
    transformers.
    """

    kind: Literal["small", "transformers"]
    path: str | None
    classes: list[str] | None
    size: PositiveInt


class Segmenter(Protocol):
    """What returns the pixels of named classes."""

    def mask(self, images: Float[Tensor, "b c h w"], classes: Sequence[str]) -> Bool[Tensor, "b 1 h w"]:
        """Return which pixels of images in -1..1 have one of the classes."""


class SmallSegmenter(nn.Module):
    """Convolutions at full size, dilated so that each pixel sees 31 x 31, and the logits of every class.

    Args:
        in_channels: channels of the images.
        classes: number of classes.
        width: channels of the layers.
    """

    def __init__(self, in_channels: int, classes: int, width: int) -> None:
        super().__init__()
        widths, dilations = (in_channels, width, width, width, width), (1, 2, 4, 8)
        layers = [
            (nn.Conv2d(a, b, 3, padding=d, dilation=d), nn.ReLU())
            for (a, b), d in zip(pairwise(widths), dilations, strict=True)
        ]
        self.body = nn.Sequential(*(part for layer in layers for part in layer), nn.Conv2d(width, classes, 1))

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """Return logits of images in -1..1."""
        return self.body(images)


class _TransformersNetwork(nn.Module):
    """A model of transformers as a network from images in -1..1 to logits of the same size."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: Any, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        seen = functional.interpolate(
            images, (self.size, self.size), mode="bilinear", align_corners=False, antialias=True
        )
        logits = self.network(pixel_values=((seen + 1) / 2 - self.mean) / self.deviation).logits
        return functional.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)


class FrozenSegmenter(nn.Module):
    """A segmentation network that is never trained, and the names of its classes.

    Args:
        network: from images in -1..1 to logits of every class.
        classes: names of the classes by number.
    """

    def __init__(self, network: nn.Module, classes: Sequence[str]) -> None:
        super().__init__()
        self.network, self.classes = network.requires_grad_(False), list(classes)
        self.eval()

    def train(self, mode: bool = True) -> "FrozenSegmenter":
        """Stay in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def segmentation(self, images: Float[Tensor, "b c h w"]) -> Int[Tensor, "b h w"]:
        """Return the class of every pixel, in single precision."""
        with single_precision(images):
            return self.network(images.float().clamp(-1, 1)).argmax(dim=1)

    def mask(self, images: Float[Tensor, "b c h w"], classes: Sequence[str]) -> Bool[Tensor, "b 1 h w"]:
        """Return which pixels of images in -1..1 have one of the classes."""
        numbers = torch.tensor([self.classes.index(name) for name in classes], device=images.device)
        return torch.isin(self.segmentation(images), numbers)[:, None]


def class_names(options: SegmenterOptions) -> list[str]:
    """Return the names of a segmenter's classes by number, from the config or from a model's folder.

    Raises:
        UserError: if neither has them.
    """
    if options["classes"] is not None:
        return options["classes"]
    if options["kind"] == "small":
        raise UserError("model.segmenter.classes: give the names of the small segmenter's classes, by number")
    path = _path(options)
    _check_folder(path)
    from transformers import AutoConfig

    known = AutoConfig.from_pretrained(path, local_files_only=True).id2label
    return [known[number] for number in sorted(known)]


def check_classes(classes: Sequence[str], options: SegmenterOptions | None, key: str) -> None:
    """Check that a segmenter knows classes.

    Raises:
        UserError: naming the first that it lacks, or that there is no segmenter.
    """
    if not classes:
        raise UserError(f"{key} is empty: name at least one class")
    if options is None:
        raise UserError(f"{key}: a region of classes needs a segmenter: give model.segmenter")
    known = class_names(options)
    for name in classes:
        if name not in known:
            raise UserError(f"{key}: the segmenter has no class {name!r}{suggestion(name, known)}")


def _path(options: SegmenterOptions) -> str:
    if options["path"] is None:
        raise UserError(f"{_KEY} is null: give a segmenter that was trained on such data, a checkpoint or a folder")
    return options["path"]


def _check_folder(path: str) -> None:
    if not (Path(path) / "config.json").is_file():
        raise UserError(
            f"{_KEY}: no segmentation model at {path}; expected a folder of transformers with config.json and"
            " model.safetensors"
        )


def build_segmenter(options: SegmenterOptions, in_channels: int) -> FrozenSegmenter:
    """Return the frozen segmenter.

    Args:
        options: see `SegmenterOptions`.
        in_channels: channels of the images.

    Raises:
        UserError: if the file or folder is missing or holds something else.
    """
    names, path = class_names(options), _path(options)
    if options["kind"] == "transformers":
        _check_folder(path)
        from transformers import AutoModelForSemanticSegmentation

        try:
            network = AutoModelForSemanticSegmentation.from_pretrained(path, local_files_only=True)
        except Exception as error:  # noqa: BLE001 - transformers raises any kind for a folder of another model
            raise UserError(f"{_KEY}: {path} is no segmentation model: {first_reason(error)}") from None
        return FrozenSegmenter(_TransformersNetwork(network, options["size"]), names)
    weights = read_weights(path, _KEY)
    hparams = weights.content.get("hyper_parameters", {})
    if "classes" not in hparams or "width" not in hparams:
        raise UserError(f"{_KEY}: {path} is not a checkpoint of a small segmenter, but {weights.form}")
    if hparams["classes"] != names or hparams["in_channels"] != in_channels:
        raise UserError(
            f"{_KEY}: {path} knows {', '.join(hparams['classes'])} in images of {hparams['in_channels']} channels,"
            f" should know {', '.join(names)} (model.segmenter.classes) in images of {in_channels}"
        )
    small = SmallSegmenter(in_channels, len(names), hparams["width"])
    fit(small, weights, f"{_KEY}: {path} is not a checkpoint of a small segmenter", only_parts=True)
    return FrozenSegmenter(small, names)
