"""Cosine similarities to the nearest neighbours, tile by tile, so that no queries x bank matrix is ever held."""

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_modules.uosr.outputs import unit_rows

# A tile of similarities (float32: 4 MB) is searched while it is still in the cache; measured on two CPU cores.
TILE_QUERIES, TILE_BANK = 256, 4096


def top_similarities(
    queries: Float[Tensor, "n d"], bank: Float[Tensor, "m d"], k: int, groups: int = 1
) -> Float[Tensor, "groups n k"]:
    """Return the k largest cosine similarities of each query to each group of the bank, largest first.

    Args:
        queries: features, of any length.
        bank: features to compare with; `groups` equal, consecutive parts are searched one by one.
        k: number of neighbours; clipped to the size of a group.
        groups: number of parts of the bank (the tries of a few-shot evaluation).

    Returns:
        Similarities in [-1, 1], float64 (the products are in the precision of the features).
    """
    queries = unit_rows(queries)
    parts = unit_rows(bank).view(groups, -1, bank.shape[1])
    k = min(k, parts.shape[1])
    found = torch.empty(groups, len(queries), k, dtype=torch.float64, device=queries.device)
    for start in range(0, len(queries), TILE_QUERIES):
        rows = slice(start, start + TILE_QUERIES)
        for group, part in enumerate(parts):
            tiles = [_largest(queries[rows] @ tile.T, k) for tile in part.split(TILE_BANK)]
            found[group, rows] = _largest(torch.cat(tiles, 1), k).sort(1, descending=True).values
    return found.clamp_(-1, 1)


def _largest(values: Float[Tensor, "n m"], k: int) -> Float[Tensor, "n j"]:
    """Return the k largest values of each row (all of a shorter row), in any order, which is faster than sorted."""
    if k == 1:
        return values.amax(1, keepdim=True)
    return values.topk(min(k, values.shape[1]), 1, sorted=False).values
