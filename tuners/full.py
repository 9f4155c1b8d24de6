"""The two ends between which every tuner lies: train the whole network, or nothing of it (u_tuning §2.6)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

from torch import nn

from common.errors import UserError
from tuners.reach import gradients
from tuners.sites import Patterns
from tuners.tuner import Tuner


class Linear(Tuner):
    """Train nothing of the network, so that only its user's head learns: linear probing.

    Args:
        lr: learning rate of the head.
    """

    def _attach(
        self, backbone: nn.Module, example: Sequence[Any], keywords: Mapping[str, Any], patterns: Patterns
    ) -> None:
        pass

    def merge_(self) -> nn.Module:
        """Detach; there is nothing to write."""
        return self.detach()


class Full(Tuner):
    """Train every weight that the output depends on: full fine-tuning.

    The network follows the tuner's mode, so its dropouts and batch norms work as in any training. Weights that were
    frozen before `attach` stay frozen, unless all were. No copy of the start is kept: `detach` leaves the network as
    trained, and `enabled(False)` is refused.

    Args:
        lr: learning rate of the network and its head.
    """

    trains_backbone = True

    def attach(self, backbone: nn.Module, *example: Any, patterns: Patterns | None = None, **keywords: Any) -> Self:
        """Attach to a backbone; see `Tuner.attach`."""
        self._open = {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}
        return super().attach(backbone, *example, patterns=patterns, **keywords)

    def _attach(
        self, backbone: nn.Module, example: Sequence[Any], keywords: Mapping[str, Any], patterns: Patterns
    ) -> None:
        weights = {name: p for name, p in backbone.named_parameters() if name in self._open or not self._open}
        # A weight without gradient would make DistributedDataParallel wait for it.
        for name, gradient in gradients(backbone, example, keywords, weights).items():
            weights[name].requires_grad_(gradient is not None)

    def _detach(self, backbone: nn.Module) -> None:
        backbone.requires_grad_(False)

    def hold(self) -> None:
        """Keep the network in the tuner's mode."""
        if self._held:
            self.backbone.train(self.training)

    @contextmanager
    def enabled(self, flag: bool) -> Iterator[None]:
        """Do nothing; the frozen network is gone, so `flag` must be true."""
        if not flag:
            raise UserError("full fine-tuning leaves no frozen network to go back to: keep a copy made before attach")
        yield

    def tuner_state_dict(self) -> dict[str, Any]:
        """Return the whole network's state, running statistics included."""
        state = self.backbone.state_dict()
        return {"backbone": self.backbone_hash, "own": {}, "in_backbone": {k: v.detach() for k, v in state.items()}}

    def load_tuner_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Load what `tuner_state_dict` returned; see `Tuner.load_tuner_state_dict`."""
        self.require_backbone(state["backbone"])
        if strict and self.backbone.state_dict().keys() != state["in_backbone"].keys():
            raise UserError("these are the weights of another tuner: they are not the whole network's")
        self.backbone.load_state_dict(state["in_backbone"], strict=strict)

    def merge_(self) -> nn.Module:
        """Detach; the weights are in the network already."""
        return self.detach()
