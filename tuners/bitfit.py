"""BitFit (Ben Zaken et al. 2022, arXiv 2106.10199): train the biases of a frozen network and nothing else."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import UserError
from common.ranges import PositiveFloat
from tuners.reach import gradients
from tuners.sites import Patterns
from tuners.tuner import Tuner


class BitFit(Tuner):
    """Train every bias that the output depends on, in place; those of the norms are among them (u_tuning §2.7).

    The biases it started from are kept, so that `detach` and `enabled(False)` give the frozen network back.

    Args:
        lr: learning rate of the biases.
    """

    def __init__(self, *, lr: PositiveFloat) -> None:
        super().__init__(lr=lr)
        self._start: dict[str, Tensor] = {}

    def _attach(
        self, backbone: nn.Module, example: Sequence[Any], keywords: Mapping[str, Any], patterns: Patterns
    ) -> None:
        # "bias", and the names of attention layers that keep their biases apart, such as "in_proj_bias".
        named = {n: p for n, p in backbone.named_parameters() if n.rpartition(".")[2].endswith("bias")}
        found = gradients(backbone, example, keywords, named) if named else {}
        trained = [name for name, gradient in found.items() if gradient is not None]
        if not trained:
            raise UserError(f"{type(backbone).__name__} has no biases for bitfit to train: use tuner=lora or tuner=ssf")
        for name in trained:
            named[name].requires_grad_(True)
        self._start = {name: named[name].detach().clone() for name in trained}

    def _detach(self, backbone: nn.Module) -> None:
        _write(self.trained_in_backbone(), self._start, train=False)
        backbone.requires_grad_(False)

    @contextmanager
    def enabled(self, flag: bool) -> Iterator[None]:
        """Within the context, put the frozen network's biases back if `flag` is false."""
        if flag:
            yield
            return
        biases = self.trained_in_backbone()
        trained = {name: bias.detach().clone() for name, bias in biases.items()}
        _write(biases, self._start, train=False)
        try:
            yield
        finally:
            _write(biases, trained, train=True)

    def merge_(self) -> nn.Module:
        """Detach and keep the trained biases, which are in the network already."""
        self._start = {name: bias.detach().clone() for name, bias in self.trained_in_backbone().items()}
        return self.detach()


def _write(biases: Mapping[str, nn.Parameter], values: Mapping[str, Tensor], *, train: bool) -> None:
    with torch.no_grad():
        for name, bias in biases.items():
            bias.copy_(values[name])
            bias.requires_grad_(train)
