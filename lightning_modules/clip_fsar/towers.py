"""Images and names in one space: CLIP of open_clip, or the mini-CLIP that this project pretrains on its own world."""

import warnings
import zipfile
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypedDict

import open_clip
import torch
from jaxtyping import Float, Int
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from common.errors import UserError

MINI = "mini"
# Numbers that OpenAI's files hold beside the weights.
_SIZES = {"input_resolution", "context_length", "vocab_size"}


class MiniOptions(TypedDict):
    """The mini-CLIP (spec, section 5): Transformers of `width`, patches of `patch_size` pixels, features of `size`.

    `vocabulary`: the words it knows; `context` the most of them in a caption, the end included.
    """

    size: int
    width: int
    layers: int
    patch_size: int
    text_layers: int
    context: int
    vocabulary: list[str]


class TowerOptions(TypedDict):
    """What turns frames and names into features.

    `name`: `mini`, or a CLIP of open_clip; OpenAI's weights need one with `quickgelu`. `weights`: null (untrained), a
    checkpoint of the experiment that pretrains the mini-CLIP, a state dict of open_clip's, an archive of OpenAI's, or a
    name by which open_clip fetches weights of that model, such as `openai`. `prompt`: what a class name is put into.
    """

    name: str
    weights: str | None
    prompt: str


def check_towers(towers: TowerOptions) -> None:
    """Raise UserError if there are no such towers, or the prompt has no place for a name."""
    if towers["name"] != MINI:
        _config(towers["name"])
    if towers["prompt"].count("{}") != 1:
        raise UserError(f"model: the prompt is '{towers['prompt']}', it needs one {{}}, where the class name goes")


def check_mini(mini: MiniOptions) -> None:
    """Raise UserError if no mini-CLIP has such sizes."""
    for name, value, parts in (("size", mini["size"], 8), ("width", mini["width"], 16)):
        if value % parts or value < parts:
            raise UserError(f"model.mini.{name} is {value}, should be a multiple of {parts}")


def _config(name: str) -> dict[str, Any]:
    """Return open_clip's configuration of a model, if it is a plain CLIP."""
    config = open_clip.get_model_config(name)
    if config is None:
        near = get_close_matches(name, open_clip.list_models(), n=3)
        raise UserError(
            f"model.towers.name: no model '{name}'; take {MINI} or {' or '.join(near or ['RN50-quickgelu'])}"
        )
    known = {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"}
    if set(config) - known or "timm_model_name" in config["vision_cfg"] or "hf_model_name" in config["text_cfg"]:
        raise UserError(f"model.towers.name: {name} is no plain CLIP; take one such as RN50-quickgelu")
    return config


def build_clip(name: str, mini: MiniOptions, image_size: int) -> Any:
    """Return untrained towers with `visual` and `encode_text`.

    Raises:
        UserError: if open_clip has no such model.
    """
    if name == MINI:
        heads = mini["width"] // 16
        vision = CLIPVisionCfg(
            layers=mini["layers"],
            width=mini["width"],
            head_width=16,
            patch_size=mini["patch_size"],
            image_size=image_size,
        )
        words = len(mini["vocabulary"]) + 2
        text = CLIPTextCfg(mini["context"], words, width=mini["width"], heads=heads, layers=mini["text_layers"])
        return CLIP(mini["size"], vision, text)
    config = _config(name)
    return CLIP(**config | {"vision_cfg": config["vision_cfg"] | {"image_size": image_size}})


def tokens(name: str, mini: MiniOptions, texts: Sequence[str]) -> Int[Tensor, "n l"]:
    """Return the token ids of texts.

    Raises:
        UserError: if the mini-CLIP does not know a word, or a text is too long for it.
    """
    if name != MINI:
        return open_clip.get_tokenizer(name)(list(texts))
    known = {word: number for number, word in enumerate(mini["vocabulary"], start=1)}
    found = torch.zeros(len(texts), mini["context"], dtype=torch.int64)
    for row, text in zip(found, texts, strict=True):
        words = text.split()
        unknown = [word for word in words if word not in known]
        if unknown:
            raise UserError(f"the mini-CLIP knows no '{unknown[0]}' (in '{text}'); it knows {' '.join(known)}")
        if len(words) >= len(row):
            raise UserError(f"'{text}' has {len(words)} words, the mini-CLIP reads {len(row) - 1}")
        # The feature is taken at the largest number, which is the end's.
        row[: len(words) + 1] = torch.tensor([known[word] for word in words] + [len(known) + 1])
    return found


def load_clip(clip: Any, name: str, weights: str) -> None:
    """Load trained towers, all of them.

    Args:
        clip: from `build_clip`.
        name: the name that it was built by.
        weights: see `TowerOptions`; not null.

    Raises:
        UserError: if the file is not there or holds other towers.
    """
    path, is_quick = _find(name, weights)
    try:
        content, is_archive = _read(path)
        if (is_quick or is_archive) and name != MINI and not _config(name).get("quick_gelu"):
            raise UserError(f"model.towers.name: {weights} was trained with another GELU: take {name}-quickgelu")
        clip.load_state_dict({key: value for key, value in content.items() if key not in _SIZES})
    except (AttributeError, RuntimeError, UnpicklingError, EOFError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"model.towers.weights: {weights} does not fit model.towers.name={name}: {reason}") from None


def _find(name: str, weights: str) -> tuple[str, bool]:
    """Return the file of weights, and whether the library says that they need its quick GELU."""
    if Path(weights).is_file():
        return weights, False
    if name == MINI or weights not in (tags := open_clip.list_pretrained_tags_by_model(name)):
        known = "" if name == MINI else f"; open_clip fetches {', '.join(tags) or 'nothing'} for {name}"
        raise UserError(f"model.towers.weights: no file {weights}{known}")
    config = open_clip.get_pretrained_cfg(name, weights)
    try:
        return open_clip.download_pretrained(config), bool(config.get("quick_gelu"))
    except Exception as error:  # noqa: BLE001 - what a hub client raises is many-fold
        raise UserError(f"model.towers.weights: {weights} of {name} cannot be fetched: {error}") from None


def _read(path: str) -> tuple[Mapping[str, Tensor], bool]:
    """Return the tensors of a file, and whether it is an archive of OpenAI's."""
    if path.endswith(".safetensors"):
        return load_file(path), False
    if _is_archive(path):
        # The form in which OpenAI distributes CLIP; nothing of it is run, but reading it is TorchScript's.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.jit.load(path, map_location="cpu").state_dict(), True
    content = torch.load(path, map_location="cpu", weights_only=True)
    content = content.get("state_dict", content)
    # As in checkpoints of the mini-CLIP, and in those of open_clip's own training on several devices.
    for prefix in ("clip.", "module."):
        if own := {key.removeprefix(prefix): value for key, value in content.items() if key.startswith(prefix)}:
            return own, False
    return content, False


def _is_archive(path: str) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        return any(name.endswith("/constants.pkl") for name in file.namelist())


@torch.no_grad()
def text_features(clip: Any, name: str, mini: MiniOptions, texts: Sequence[str]) -> Float[Tensor, "n d"]:
    """Return the text features of prompts, not normalised, in single precision on the CPU."""
    return clip.eval().float().encode_text(tokens(name, mini, texts)).float()
