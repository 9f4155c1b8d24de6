"""A small classifier on overlapping blobs, trained in a second, with unknown blobs beside them."""

import functools
from typing import NamedTuple

import torch
from torch import nn

from lightning_modules.uosr.outputs import Outputs
from lightning_modules.uosr.scores.odin import odin_score

KNOWN, UNKNOWN, WIDTH = 6, 4, 24


class Toy(NamedTuple):
    train: Outputs
    known: Outputs
    ood: Outputs
    pool: Outputs
    weight: torch.Tensor
    bias: torch.Tensor


def _blobs(centres, per_class, noise, generator):
    labels = torch.arange(len(centres)).repeat_interleave(per_class)
    return centres[labels] + noise * torch.randn(len(labels), centres.shape[1], generator=generator), labels


@functools.cache
def toy() -> Toy:
    """Return outputs of a trained toy network; the pool has 20 references of each of 4 unknown classes."""
    generator = torch.Generator().manual_seed(0)
    centres = 1.3 * torch.randn(KNOWN + UNKNOWN, 8, generator=generator)
    x, y = _blobs(centres[:KNOWN], 150, 1.3, generator)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, WIDTH), nn.ReLU())
        head = nn.Linear(WIDTH, KNOWN)
    optimizer = torch.optim.AdamW([*body.parameters(), *head.parameters()], lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(body(x)), y).backward()
        optimizer.step()

    def run(inputs, labels):
        with torch.no_grad():
            features = body(inputs)
            logits = head(features)
        odin = odin_score(lambda images: head(body(images)), inputs)
        return Outputs(logits, features, labels, {"odin": odin})

    ood_x, ood_y = _blobs(centres[KNOWN:], 100, 1.3, generator)
    pool_x, pool_y = _blobs(centres[KNOWN:], 20, 1.3, generator)
    known_x, known_y = _blobs(centres[:KNOWN], 100, 1.3, generator)
    sets = (run(x, y), run(known_x, known_y), run(ood_x, ood_y), run(pool_x, pool_y))
    return Toy(*sets, head.weight.detach(), head.bias.detach())
