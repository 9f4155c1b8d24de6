"""What every tuner shares: it is attached to a backbone from outside, freezes it, and can be taken off again."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn

from common.errors import UserError
from common.ranges import PositiveFloat, Ranged
from tuners.sites import Patterns


class Tuner(Ranged, nn.Module):
    """Base of the tuners. The backbone is never a child: its keys and attributes stay as they are.

    A subclass writes `_attach`; what it adds to the backbone goes through `tuners.hooks`, whose callables are modules
    and children of the tuner, so that a deep copy of model and tuner together is tuned by its own copy.

    Args:
        lr: learning rate that suits this tuner, for papers that train with it.
    """

    config_key = "tuner"
    #: Whether the backbone's own weights are trained (full fine-tuning), so that it is not held in eval mode.
    trains_backbone = False

    def __init__(self, *, lr: PositiveFloat) -> None:
        super().__init__()
        self.lr = lr
        self._held: tuple[nn.Module, ...] = ()
        self.backbone_hash: str | None = None

    @property
    def backbone(self) -> nn.Module:
        """The network that the tuner is attached to."""
        if not self._held:
            raise UserError(f"{type(self).__name__} is attached to no network")
        return self._held[0]

    # Attaching.

    def attach(self, backbone: nn.Module, *example: Any, patterns: Patterns | None = None, **keywords: Any) -> Self:
        """Freeze a backbone and attach to it.

        Args:
            backbone: any network; what is not part of it, such as a head, is left alone.
            example: positional inputs of one forward pass, from which shapes and layouts are read.
            patterns: regular expressions of module names by op, for networks of no known family.
            keywords: keyword inputs of the same pass.

        Raises:
            UserError: if the tuner does not go with this network; one line that says what would.
        """
        if self._held:
            raise UserError(f"{type(self).__name__} is attached already: detach it first")
        self.backbone_hash = weights_hash(backbone.state_dict())
        trained = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
        backbone.requires_grad_(False)
        self._held = (backbone,)
        was_training = backbone.training
        backbone.eval()
        try:
            self._attach(backbone, example, keywords, patterns or {})
        except Exception:
            # Who is refused gets the network back as it was.
            self._detach(backbone)
            self._held = ()
            backbone.train(was_training)
            for parameter in trained:
                parameter.requires_grad_(True)
            raise
        backbone.train(was_training)
        self.hold()
        return self

    def _attach(
        self, backbone: nn.Module, example: Sequence[Any], keywords: Mapping[str, Any], patterns: Patterns
    ) -> None:
        """Build the tuner's parts for this backbone and hook them in."""
        raise NotImplementedError

    def detach(self) -> nn.Module:
        """Take the tuner off; the backbone computes what it did before, bit for bit, and is returned, still frozen."""
        backbone = self.backbone
        self._detach(backbone)
        self._held = ()
        return backbone

    def _detach(self, backbone: nn.Module) -> None:
        """Undo `_attach`: by default, remove every hook of this tuner's from the backbone."""
        own = set(self.modules())
        for module in backbone.modules():
            for hooks in (module._forward_hooks, module._forward_pre_hooks):  # noqa: SLF001 - no public listing
                for key in [key for key, hook in hooks.items() if hook in own]:
                    del hooks[key]
                    module._forward_hooks_with_kwargs.pop(key, None)  # noqa: SLF001
                    module._forward_pre_hooks_with_kwargs.pop(key, None)  # noqa: SLF001

    @contextmanager
    def enabled(self, flag: bool) -> Iterator[None]:
        """Within the context, switch what the tuner adds on or off."""
        parts: list[Any] = [part for part in self.modules() if hasattr(part, "is_on")]
        before = [part.is_on for part in parts]
        for part in parts:
            part.is_on = flag
        try:
            yield
        finally:
            for part, state in zip(parts, before, strict=True):
                part.is_on = state

    # Modes.

    def hold(self) -> None:
        """Keep the frozen backbone in eval mode: its batch norms and dropouts must not move."""
        if self._held and not self.trains_backbone:
            self.backbone.eval()

    def train(self, mode: bool = True) -> Self:
        """Set the tuner's mode; the backbone stays in eval mode."""
        super().train(mode)
        self.hold()
        return self

    # Parameters and state.

    def trained_in_backbone(self) -> dict[str, nn.Parameter]:
        """Return the backbone's parameters, by their names in it, that this tuner trains in place."""
        return {name: p for name, p in self.backbone.named_parameters() if p.requires_grad} if self._held else {}

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Return every parameter that the tuner trains, the head's not among them."""
        own = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return own + list(self.trained_in_backbone().values())

    def num_trainable(self) -> int:
        """Return how many numbers the tuner trains, the head's not among them."""
        return sum(parameter.numel() for parameter in self.trainable_parameters())

    def tuner_state_dict(self) -> dict[str, Any]:
        """Return what has to be stored: the tuner's tensors, the backbone's trained ones, the backbone's hash."""
        return {
            "backbone": self.backbone_hash,
            "own": dict(self.state_dict()),
            "in_backbone": {name: p.detach() for name, p in self.trained_in_backbone().items()},
        }

    def load_tuner_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Load what `tuner_state_dict` returned into an attached tuner.

        Raises:
            UserError: if it belongs to another backbone, or (strict) the names differ.
        """
        self.require_backbone(state["backbone"])
        try:
            self.load_state_dict(state["own"], strict=strict)
        except RuntimeError as error:
            raise UserError(f"these are the weights of another tuner: {' '.join(str(error).split())[:200]}") from None
        there = self.trained_in_backbone()
        if strict and there.keys() != state["in_backbone"].keys():
            raise UserError("these are the weights of another tuner: they train other parameters of the backbone")
        with torch.no_grad():
            for name, value in state["in_backbone"].items():
                there[name].copy_(value)

    def require_backbone(self, known: str | None) -> None:
        """Raise UserError if a stored hash is not that of the backbone this tuner was attached to."""
        if known != self.backbone_hash:
            raise UserError(
                f"this tuner was trained on another backbone (hash {known}, this one {self.backbone_hash}):"
                " give the weights it was trained on"
            )

    def merge_(self) -> nn.Module:
        """Write the tuner into the backbone's plain weights, detach, and return the backbone.

        Raises:
            UserError: if this tuner has no plain form.
        """
        raise UserError(f"{type(self).__name__} has no plain form to merge into: lora, ssf, bitfit and full do")


def weights_hash(weights: Mapping[str, Tensor]) -> str | None:
    """Return a hash of names and values of weights, None for tensors without data (the meta device)."""
    total = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name]
        if value.is_meta:
            return None
        total.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        total.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:16]
