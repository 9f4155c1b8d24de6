"""The two towers: which there are, untrained ones by name, and features of texts."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, TypedDict

import open_clip
import torch
from jaxtyping import Float
from open_clip.model import CLIP
from torch import Tensor

from common.errors import UserError
from networks.clip.mini import MINI, MiniOptions, build_mini
from networks.clip.tokenizers import tokenize


class TowerOptions(TypedDict):
    """What turns images and names into features.

    `name`: `mini`, or a CLIP of open_clip; OpenAI's weights need one with `quickgelu`. `weights`: null (untrained), a
    checkpoint of the experiment that pretrains the mini-CLIP, a file of open_clip, OpenAI or Hugging Face (or its
    folder), or a name by which open_clip fetches weights of that model, such as `openai`. `prompt`: what a class name
    is put into.
    """

    name: str
    weights: str | None
    prompt: str


def check_towers(towers: TowerOptions) -> None:
    """Raise UserError if there are no such towers, or the prompt has no place for a name."""
    if towers["name"] != MINI:
        clip_config(towers["name"])
    if towers["prompt"].count("{}") != 1:
        raise UserError(f"model: the prompt is '{towers['prompt']}', it needs one {{}}, where the class name goes")


def clip_config(name: str, key: str = "model.towers.name") -> dict[str, Any]:
    """Return open_clip's configuration of a model; `key` is the key of the config that names it.

    Raises:
        UserError: if there is no such model, or it is no plain CLIP.
    """
    config = open_clip.get_model_config(name)
    if config is None:
        near = get_close_matches(name, open_clip.list_models(), n=3)
        raise UserError(f"{key}: no model '{name}'; take {MINI} or {' or '.join(near or ['RN50-quickgelu'])}")
    known = {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"}
    if set(config) - known or "timm_model_name" in config["vision_cfg"] or "hf_model_name" in config["text_cfg"]:
        raise UserError(f"{key}: {name} is no plain CLIP; take one such as RN50-quickgelu")
    return config


def build_clip(name: str, mini: MiniOptions, image_size: int) -> CLIP:
    """Return untrained towers with `visual` and `encode_text`.

    Args:
        name: `mini`, or a CLIP of open_clip.
        mini: the mini-CLIP's sizes.
        image_size: side of the images in pixels, for which the position embeddings are built.

    Raises:
        UserError: if open_clip has no such model.
    """
    if name == MINI:
        return build_mini(mini, image_size)
    config = clip_config(name)
    return CLIP(**config | {"vision_cfg": config["vision_cfg"] | {"image_size": image_size}})


@torch.no_grad()
def text_features(clip: Any, name: str, mini: MiniOptions, texts: Sequence[str]) -> Float[Tensor, "n d"]:
    """Return the text features of prompts, not normalized, in single precision on the CPU."""
    return clip.eval().float().encode_text(tokenize(name, mini, texts)).float()
