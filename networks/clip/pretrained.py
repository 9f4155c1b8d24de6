"""Trained towers: a file in any form, or a name by which open_clip fetches it; the activation has to be the model's."""

from functools import cache
from pathlib import Path

import open_clip
from torch import nn

from common.errors import UserError, first_reason
from common.pixel_statistics import CLIP_MEAN, CLIP_STD, Statistics
from networks.clip.mini import MINI
from networks.weights.fitting import fit
from networks.weights.forms import Weights, read_weights

# Numbers that OpenAI's files hold next to the weights, and masks that follow from the sizes.
_NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask")
_QUICK, _PLAIN = "quick_gelu", "gelu"


@cache
def clip_normalization(name: str) -> Statistics | None:
    """Return mean and deviation by channel, of images in 0..1, of a model of open_clip; None for `mini`: -1..1."""
    if name == MINI:
        return None
    tags = open_clip.list_pretrained_tags_by_model(name)
    config = open_clip.get_pretrained_cfg(name, tags[0]) if tags else {}
    return config.get("mean", CLIP_MEAN), config.get("std", CLIP_STD)


def clip_weights(name: str, weights: str, key: str) -> Weights:
    """Return trained weights of a CLIP under open_clip's names.

    Args:
        name: `mini`, or a model of open_clip.
        weights: a path, or a name by which open_clip fetches weights of that model, such as `openai`.
        key: the key of the config that names the weights.

    Raises:
        UserError: if there is no such file, it cannot be fetched, or was trained with another activation than the
            model has.
    """
    if Path(weights).exists():
        found = read_weights(weights, key)
        _check_activation(name, weights, found.activation, key)
        return found
    if name == MINI or weights not in (tags := open_clip.list_pretrained_tags_by_model(name)):
        known = "" if name == MINI else f"; open_clip fetches {', '.join(tags) or 'nothing'} for {name}"
        raise UserError(f"{key}: no file {weights}{known}")
    config = open_clip.get_pretrained_cfg(name, weights)
    _check_activation(name, weights, _QUICK if config.get("quick_gelu") else None, key)
    try:
        file = open_clip.download_pretrained(config)
    except Exception as error:  # noqa: BLE001 - what a hub client raises is many-fold
        raise UserError(f"{key}: {weights} of {name} cannot be fetched: {first_reason(error)}") from None
    return read_weights(file, key)


def _check_activation(name: str, weights: str, trained_with: str | None, key: str) -> None:
    """Raise UserError if weights were trained with another GELU than the model has; None is unknown."""
    if name == MINI or trained_with not in (_QUICK, _PLAIN):
        return
    config = open_clip.get_model_config(name) or {}
    if (trained_with == _QUICK) == bool(config.get("quick_gelu")):
        return
    other = name.removesuffix("-quickgelu") + ("-quickgelu" if trained_with == _QUICK else "")
    known = f"take {other}" if other in open_clip.list_models() else f"open_clip has no {other}"
    model = key.replace(".weights", ".name")
    raise UserError(f"{model}: {weights} was trained with another GELU ({trained_with}) than {name} has: {known}")


def load_clip(clip: nn.Module, name: str, weights: str, key: str = "model.towers.weights") -> None:
    """Load trained towers, all of them; position embeddings of another image size are resampled.

    Args:
        clip: from `build_clip`.
        name: the name that it was built by.
        weights: see `TowerOptions`; not null.
        key: the key of the config that names the weights.

    Raises:
        UserError: if the file is not there or holds other towers.
    """
    fit_clip(clip, name, clip_weights(name, weights, key), key)


def fit_clip(network: nn.Module, name: str, weights: Weights, key: str) -> None:
    """Load weights into both towers or one of them.

    Raises:
        UserError: if they are those of other towers.
    """
    refusal = f"{key}: {weights.path} does not fit {key.replace('.weights', '.name')}={name}"
    fit(network, weights, refusal, is_unused=lambda tensor: tensor.split(".")[-1] in _NO_WEIGHTS)
