"""Images and names in one space: CLIP of open_clip, or the mini-CLIP that this project pretrains on its own world."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypedDict

import open_clip
import torch
from jaxtyping import Float, Int
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import Tensor

MINI = "mini"


class TowerError(ValueError):
    """There are no such towers, weights or words; the user can put it right."""

    is_bad_input = True


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

    `name`: `mini`, or a model of open_clip; OpenAI's weights need one with `quickgelu`. `weights`: null (untrained), a
    checkpoint of the experiment that pretrains the mini-CLIP, a state dict of open_clip's, or an archive of OpenAI's.
    `prompt`: what a class name is put into.
    """

    name: str
    weights: str | None
    prompt: str


def build_clip(name: str, mini: MiniOptions, image_size: int) -> Any:
    """Return untrained towers with `visual` and `encode_text`.

    Raises:
        TowerError: if open_clip has no such model, or it takes other images.
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
    if name not in open_clip.list_models():
        raise TowerError(f"model.towers.name: no model '{name}'; take {MINI} or one of open_clip, as RN50-quickgelu")
    return open_clip.create_model(name, load_weights=False, force_image_size=image_size)


def tokens(name: str, mini: MiniOptions, texts: Sequence[str]) -> Int[Tensor, "n l"]:
    """Return the token ids of texts.

    Raises:
        TowerError: if the mini-CLIP does not know a word, or a text is too long for it.
    """
    if name != MINI:
        return open_clip.get_tokenizer(name)(list(texts))
    known = {word: number for number, word in enumerate(mini["vocabulary"], start=1)}
    found = torch.zeros(len(texts), mini["context"], dtype=torch.int64)
    for row, text in zip(found, texts, strict=True):
        words = text.split()
        unknown = [word for word in words if word not in known]
        if unknown:
            raise TowerError(f"the mini-CLIP knows no '{unknown[0]}' (in '{text}'); it knows {' '.join(known)}")
        if len(words) >= len(row):
            raise TowerError(f"'{text}' has {len(words)} words, the mini-CLIP reads {len(row) - 1}")
        # The feature is taken at the largest number, which is the end's.
        row[: len(words) + 1] = torch.tensor([known[word] for word in words] + [len(known) + 1])
    return found


def load_clip(clip: Any, weights: str) -> None:
    """Load trained towers, all of them.

    Args:
        clip: from `build_clip`.
        weights: see `TowerOptions`; not null.

    Raises:
        TowerError: if the file is not there or holds other towers.
    """
    try:
        clip.load_state_dict(_read(clip, weights))
    except (RuntimeError, UnpicklingError, EOFError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TowerError(f"model.towers.weights: {weights} does not fit model.towers.name: {reason}") from None


def _read(clip: Any, weights: str) -> Mapping[str, Tensor]:
    if not Path(weights).is_file():
        raise TowerError(f"model.towers.weights: no file {weights}")
    try:
        content = torch.load(weights, map_location="cpu", weights_only=True)
    except RuntimeError:
        # OpenAI distributes TorchScript archives.
        archive = torch.jit.load(weights, map_location="cpu").state_dict()
        return {key: value for key, value in archive.items() if key in clip.state_dict()}
    content = content.get("state_dict", content)
    own = {key.removeprefix("clip."): value for key, value in content.items() if key.startswith("clip.")}
    return own or content


@torch.no_grad()
def text_features(clip: Any, name: str, mini: MiniOptions, texts: Sequence[str]) -> Float[Tensor, "n d"]:
    """Return the text features of prompts, not normalised, in single precision on the CPU."""
    return clip.eval().float().encode_text(tokens(name, mini, texts)).float()
