"""The mini-CLIP: two small Transformers with a vocabulary of their own, pretrained here on a procedural world."""

from typing import TypedDict

from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

from common.errors import UserError
from common.ranges import PositiveInt

MINI = "mini"
_HEAD_WIDTH = 16


class MiniOptions(TypedDict):
    """The sizes of the mini-CLIP: Transformers of `width`, patches of `patch_size` pixels, features of `embed_dim`.

    `vocabulary`: the words it knows; `context_length` the most of them in a caption, the end included.
    """

    embed_dim: PositiveInt
    width: PositiveInt
    layers: PositiveInt
    patch_size: PositiveInt
    text_layers: PositiveInt
    context_length: PositiveInt
    vocabulary: list[str]


def check_mini(mini: MiniOptions) -> None:
    """Raise UserError if no mini-CLIP has such sizes."""
    for name, value, parts in (("embed_dim", mini["embed_dim"], 8), ("width", mini["width"], _HEAD_WIDTH)):
        if value % parts or value < parts:
            raise UserError(f"model.mini.{name} is {value}, should be a multiple of {parts}")


def build_mini(mini: MiniOptions, image_size: int) -> CLIP:
    """Return an untrained mini-CLIP for images of a size in pixels."""
    vision = CLIPVisionCfg(
        layers=mini["layers"],
        width=mini["width"],
        head_width=_HEAD_WIDTH,
        patch_size=mini["patch_size"],
        image_size=image_size,
    )
    # Padding is 0 and the end is the largest number, see `tokenize`.
    words = len(mini["vocabulary"]) + 2
    heads = mini["width"] // _HEAD_WIDTH
    text = CLIPTextCfg(mini["context_length"], words, width=mini["width"], heads=heads, layers=mini["text_layers"])
    return CLIP(mini["embed_dim"], vision, text)
