"""What a run changes of the base so that it draws a subject: neurons, or the baselines' weights (cones §2.8)."""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_modules.cones.cluster import ConceptCluster

Adaptation = Literal["neurons", "key_value", "unet", "identifier"]
"""The method; fine-tuning of all candidates (as Custom Diffusion), of the whole U-Net (as DreamBooth), and of the
identifier's embedding alone (as Textual Inversion)."""


class TunedEntries(nn.Module):
    """Values of the shut entries of one matrix, first 0, in place of the base's; everything else stays the base's.

    Args:
        indices: sorted flat indices of the entries.
        values: what they start at, 0 unless given.
    """

    indices: Tensor

    def __init__(self, indices: Tensor, values: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("indices", indices.long())
        self.values = nn.Parameter(torch.zeros(len(indices)) if values is None else values.float().clone())

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight with the values at the indices."""
        return weight.flatten().index_copy(0, self.indices, self.values.to(weight.dtype)).view_as(weight)


def build_tuned(cluster: ConceptCluster) -> nn.ModuleList:
    """Return trainable values in place of what a cluster shuts, in the order of its matrices."""
    return nn.ModuleList(TunedEntries(each, cluster.values.get(name)) for name, each in cluster.indices.items())


def keep_gradient_of_row(embedding: nn.Embedding, row: int) -> None:
    """Let one row of an embedding alone have a gradient."""

    def only_row(gradient: Tensor) -> Tensor:
        kept = torch.zeros_like(gradient)
        kept[row] = gradient[row]
        return kept

    embedding.weight.register_hook(only_row)


def float_bytes(parameters: Iterable[Tensor]) -> int:
    """Return how many bytes parameters take as float32."""
    return 4 * sum(parameter.numel() for parameter in parameters)
