"""Dropout by the position in the global batch: the same on any number of processes, whatever other parts draw."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from networks.distributed import rank, rank_part, world_size
from networks.noise import BatchNoise


class PositionedDropout(nn.Dropout):
    """Dropout whose mask depends on the batch, on this layer's name and on the position in the global batch.

    The first axis has to be the samples' (or several rows of each, sample by sample), of which every process holds an
    equal, contiguous part. Without noise it is torch's dropout.
    """

    stream = ""
    noise: BatchNoise | None = None
    _calls = 0

    def begin(self, noise: BatchNoise) -> None:
        """Begin a batch."""
        self.noise, self._calls = noise, 0

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's own signature
        """Return the input [b, ...] with numbers set to zero in training, and the others made larger."""
        if self.noise is None or not self.training or not 0 < self.p < 1:
            return functional.dropout(input, self.p, self.training)
        generator = self.noise.part("dropout").shared(f"{self.stream}/{self._call()}", input.device)
        # No process draws more than a run on one would: the global batch does not grow with their number.
        drawn = torch.rand(
            len(input) * world_size(), *input.shape[1:], generator=generator, device=input.device, dtype=torch.float32
        )
        return input * (drawn[rank_part(len(input), rank())] >= self.p).to(input.dtype) / (1 - self.p)

    def _call(self) -> int:
        """Return which call of the batch this is."""
        # Checkpointing repeats calls in the backward pass, the last one first.
        if torch._C._current_graph_task_id() >= 0:  # noqa: SLF001 - it has no public name
            self._calls -= 1
            return self._calls
        self._calls += 1
        return self._calls - 1


def positioned_dropouts(network: nn.Module) -> list[PositionedDropout]:
    """Make every dropout of a network one by position, in place, and return them."""
    found = []
    for name, module in network.named_modules():
        if type(module) is nn.Dropout:
            # The class alone is changed: hooks and names in the checkpoint stay as they are.
            module.__class__ = PositionedDropout
        if isinstance(module, PositionedDropout):
            module.stream = name
            found.append(module)
    return found
