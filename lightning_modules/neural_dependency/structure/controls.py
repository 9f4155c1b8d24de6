"""Logits that look like a network's and lack what is claimed of them (§3.2).

Shuffled columns keep every logit's distribution and no joint one; a rotation keeps the spectrum of the covariance and
no category; probabilities are what the softmax makes of the logits. The fourth, an untrained network, is the caller's.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def shuffled(logits: Float[Tensor, "n k"], seed: int) -> Float[Tensor, "n k"]:
    """Return the logits, every column in a random order of its own.

    Args:
        logits: of any split; take another seed for another split.
        seed: seed of the orders.
    """
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.empty_like(logits)
    for column in range(logits.shape[1]):
        order = torch.randperm(len(logits), generator=generator).to(logits.device)
        mixed[:, column] = logits[order, column]
    return mixed


def random_rotation(size: int, seed: int) -> Float[Tensor, "k k"]:
    """Return an orthogonal matrix, float64, drawn evenly from all of them."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(size, size, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(matrix)
    # Without these signs the factor is not evenly distributed.
    return q * r.diagonal().sign()


def rotated(logits: Float[Tensor, "n k"], mean: Float[Tensor, " k"], seed: int) -> Float[Tensor, "n k"]:
    """Return the centred logits in random axes, float64: the same spectrum, no categories.

    Args:
        logits: of any split; all splits of one control share `mean` and `seed`.
        mean: mean of the logits on the split that the moments come from.
        seed: seed of the axes.
    """
    axes = random_rotation(logits.shape[1], seed).to(logits.device)
    return (logits.double() - mean.double()) @ axes


def probabilities(logits: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """Return the softmax of the logits, float64."""
    return logits.double().softmax(dim=1)
