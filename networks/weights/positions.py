"""Position embeddings of a Vision Transformer, resampled from the grid of patches in a file to a network's own."""

from collections.abc import Mapping
from math import isqrt
from typing import Any

from torch import Tensor, nn

_NAMES = ("pos_embed", "positional_embedding")


def resample_positions(network: nn.Module, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Return tensors whose position embeddings fit the network's image size, and a note of each that was resampled.

    Embeddings [1, n, d] or [n, d] are interpolated bicubically with antialiasing, as timm and open_clip do; those of
    class and register tokens, which come first, are kept. A text's positions are no grid and stay as they are.

    Args:
        network: what the tensors are for.
        tensors: by the network's names.
    """
    from timm.layers import resample_abs_pos_embed

    found, notes = dict(tensors), []
    for name, local in network.state_dict().items():
        given = tensors.get(name)
        if given is None or not name.endswith(_NAMES) or given.shape == local.shape or given.ndim != local.ndim:
            continue
        grid = _grid(network, name, local.shape[-2])
        if grid is None or given.shape[-1] != local.shape[-1]:
            continue
        extra = local.shape[-2] - grid[0] * grid[1]
        side = isqrt(max(0, given.shape[-2] - extra))
        if side < 1 or side**2 + extra != given.shape[-2]:
            continue
        resampled = resample_abs_pos_embed(given.reshape(1, *given.shape[-2:]), list(grid), num_prefix_tokens=extra)
        found[name] = resampled.reshape(local.shape)
        notes.append(f"position embeddings resampled from {side}x{side} to {grid[0]}x{grid[1]} patches")
    return found, notes


def _grid(network: nn.Module, name: str, tokens: int) -> tuple[int, int] | None:
    """Return rows and columns of the patches that an embedding is of, None if it is of no image."""
    place = name.rpartition(".")[0]
    owner: Any = network.get_submodule(place)
    size = getattr(owner, "grid_size", None) or getattr(getattr(owner, "patch_embed", None), "grid_size", None)
    if size:
        return (int(size[0]), int(size[1]))
    # The pooling of CLIP's ResNets: one token for the mean, and a square of positions.
    return (isqrt(tokens - 1),) * 2 if place.endswith("attnpool") else None
