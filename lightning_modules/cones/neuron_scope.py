"""Which weights may be concept neurons: entries of key and value projections in the U-Net's attention (cones §2.1)."""

import re
from typing import Literal

from torch import nn

from common.errors import UserError

Scope = Literal["cross", "cross+self", "self"]

# In diffusers' blocks attn1 is attention among pixels and attn2 that to the words.
_LAYERS = {"cross": "attn2", "self": "attn1", "cross+self": "attn[12]"}


def candidate_layers(unet: nn.Module, scope: Scope) -> dict[str, nn.Linear]:
    """Return the key and value projections of a scope, by the names of their weights in the U-Net.

    Raises:
        UserError: if the U-Net has none.
    """
    pattern = re.compile(rf".*\.transformer_blocks\.\d+\.{_LAYERS[scope]}\.to_[kv]")
    layers = {
        f"{name}.weight": module
        for name, module in unet.named_modules()
        if pattern.fullmatch(name) and isinstance(module, nn.Linear)
    }
    if not layers:
        raise UserError(f"model.scope is {scope}, and the U-Net has no such attention layers")
    return layers


def count_candidates(layers: dict[str, nn.Linear]) -> int:
    """Return the number of scalars that may be shut."""
    return sum(layer.weight.numel() for layer in layers.values())
