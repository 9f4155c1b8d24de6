"""CLIP of transformers (`CLIPModel` and its two towers) under the names of open_clip."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from common.files import read_json

_TOWERS = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.encoder.layers.": "transformer.resblocks.",
    "text_model.final_layer_norm.": "ln_final.",
    "text_projection.weight": "text_projection",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.encoder.layers.": "visual.transformer.resblocks.",
    "vision_model.pre_layrnorm.": "visual.ln_pre.",
    "vision_model.post_layernorm.": "visual.ln_post.",
    "visual_projection.weight": "visual.proj",
}
_LAYERS = {
    ".layer_norm1.": ".ln_1.",
    ".layer_norm2.": ".ln_2.",
    ".mlp.fc1.": ".mlp.c_fc.",
    ".mlp.fc2.": ".mlp.c_proj.",
    ".self_attn.out_proj.": ".attn.out_proj.",
}
_FIRST = re.compile(r"(|.*\.)(text_model\.embeddings\.token_embedding|vision_model\.embeddings\.class_embedding)")
# Linear layers there are matrices that features are multiplied by here.
_TRANSPOSED = {"text_projection", "visual.proj"}


def hugging_face_prefix(names: Iterable[str]) -> str | None:
    """Return what names of transformers' CLIP, or of one of its towers, begin with; None for another network."""
    found = (_FIRST.match(name) for name in names)
    return next((match[1] for match in found if match), None)


def open_clip_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return transformers' tensors under the names and in the layout of open_clip.

    Queries, keys and values are one matrix there, and projections are transposed.
    """
    found = {_renamed(name): value for name, value in tensors.items() if not name.endswith(".position_ids")}
    for name in [name for name in found if ".self_attn.q_proj." in name]:
        parts = [found.pop(name.replace(".q_proj.", f".{part}_proj."), None) for part in "qkv"]
        joined = name.replace(".self_attn.q_proj.", ".attn.in_proj_")
        found[joined] = torch.cat([part for part in parts if part is not None])
    return {name: value.T.contiguous() if name in _TRANSPOSED else value for name, value in found.items()}


def _renamed(name: str) -> str:
    for theirs, ours in _TOWERS.items():
        if name.startswith(theirs):
            name = ours + name.removeprefix(theirs)
            break
    for theirs, ours in _LAYERS.items():
        name = name.replace(theirs, ours)
    return name


def hidden_activation(file: Path) -> str | None:
    """Return the activation that `config.json` next to a file names, "gelu" or "quick_gelu"; None if there is none."""
    config = read_json(file.with_name("config.json"))
    if not isinstance(config, dict):
        return None
    tower = config.get("vision_config") or config
    return tower.get("hidden_act") if isinstance(tower, dict) else None
