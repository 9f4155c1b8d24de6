"""Scores from the penultimate features: nearest training neighbour, and what lies off the principal subspace."""

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_modules.uosr.scores.neighbours import top_similarities


class Knn:
    """1 - cosine similarity to the k-th nearest training feature (k = 1; code: UOSR_few_shot/knn_evaluate.py).

    Args:
        train: training features.
        k: which neighbour; clipped to the number of training samples.
    """

    def __init__(self, train: Float[Tensor, "m d"], k: int = 1) -> None:
        self.train, self.k = train, k

    def __call__(self, features: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Return the score, float64 in [0, 2]."""
        return 1 - top_similarities(features, self.train, self.k)[0, :, -1]


class Residual:
    """Length of what a feature has outside the principal subspace of the training features (ViM, SIRC_bit.py).

    Args:
        train: training features.
        weight: weight of the last linear layer.
        bias: bias of the last linear layer.
    """

    def __init__(self, train: Float[Tensor, "m d"], weight: Float[Tensor, "k d"], bias: Float[Tensor, " k"]) -> None:
        self.origin = -torch.linalg.pinv(weight.double()) @ bias.double()
        centred = train.double() - self.origin
        # eigh gives rising eigenvalues: the first columns are the least of the training features.
        values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
        width = train.shape[1]
        # Where the features span fewer dimensions, which of the empty ones are called principal would be chance.
        noise = (torch.finfo(torch.float32).eps * max(train.shape)) ** 2 * values[-1]
        spanned = int((values > noise).sum())
        self.rest = vectors[:, : width - min(principal_dimensions(width), spanned)]

    def __call__(self, features: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Return ||R^T (z - o)||, float64, at least 0."""
        return torch.linalg.vector_norm((features.double() - self.origin) @ self.rest, dim=1)


def principal_dimensions(width: int) -> int:
    """Return the dimension of the principal subspace for features of this width (SIRC_bit.py; half for narrow ones)."""
    if width > 1500:
        return 1000
    return 512 if width > 512 else width // 2
