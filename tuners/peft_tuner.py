"""Tuners of the peft library (LoRA, DoRA, LoHa, LoKr, OFT, BOFT, IA3, FourierFT, LN tuning) inside a frozen network."""

import copy
import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import peft
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from common.errors import UserError
from common.ranges import PositiveFloat
from tuners.peft_layers import KeepWeights, dead, default_targets, peft_layers, refuse_wide_oft, take_out
from tuners.reach import gradients, uses_weight_as_is
from tuners.sites import Patterns
from tuners.tuner import Tuner

ConfigClass = Literal[
    "LoraConfig",
    "LoHaConfig",
    "LoKrConfig",
    "OFTConfig",
    "BOFTConfig",
    "IA3Config",
    "VeraConfig",
    "FourierFTConfig",
    "LNTuningConfig",
]
# Starts of LoRA that leave the frozen weights alone.
STARTS = (True, False, "gaussian", "orthogonal")
# What peft raises for a network or a setting that it does not take.
REFUSALS = (ValueError, TypeError, RuntimeError, AttributeError, KeyError, StopIteration, AssertionError, ImportError)


class PeftTuner(Tuner):
    """A method of peft's, put into the backbone's layers by `inject_adapter_in_model`.

    While it is attached, the weights of those layers have other names in the backbone's state (".base_layer.");
    `detach` and `merge_` put the plain layers and their names back.

    Args:
        config_class: the method, by the name of peft's config class; DoRA and rsLoRA are options of `LoraConfig`.
        kwargs: its settings, other than the modules it goes into.
        target_modules: those modules, by name or the end of it, or by one regular expression; null for what suits the
            network (`tuners.peft_layers.default_targets`).
        lr: learning rate of what it adds.
    """

    def __init__(
        self,
        *,
        config_class: ConfigClass,
        kwargs: dict[str, Any],
        target_modules: list[str] | str | None,
        lr: PositiveFloat,
    ) -> None:
        super().__init__(lr=lr)
        self.config_class, self.kwargs, self.target_modules = config_class, kwargs, target_modules
        _check(config_class, kwargs)

    def _attach(
        self, backbone: nn.Module, example: Sequence[Any], keywords: Mapping[str, Any], patterns: Patterns
    ) -> None:
        if peft_layers(backbone):
            raise UserError(f"{type(backbone).__name__} has layers of peft's already: merge or unload them first")
        norms = self.config_class == "LNTuningConfig"
        target = self.target_modules or default_targets(backbone, example, keywords, patterns, norms=norms)
        try:
            peft.inject_adapter_in_model(_config(self.config_class, self.kwargs, target), backbone)
            layers = peft_layers(backbone)
            refuse_wide_oft(layers)
            self._keep_weights(backbone)
            name = dead(layers, self._gradients(example, keywords))
        except REFUSALS as error:
            take_out(backbone, merge=False)
            reason = " ".join(str(error).split()).split(". ")[0] or "a target has no weights, such as nn.Identity"
            instead = "use tuner=lora without DoRA, or name other modules by target_modules=[...]"
            raise UserError(f"peft's {self.config_class} does not go in here ({reason[:200]}): {instead}") from None
        if name is not None:
            take_out(backbone, merge=False)
            whole = name.rpartition(".")[0]
            is_part = isinstance(backbone.get_submodule(whole), nn.MultiheadAttention)
            instead = (
                f"target_modules={whole}, the attention as a whole"
                if is_part
                else "name others by target_modules=[...]"
            )
            raise UserError(
                f"peft's {self.config_class} on {name} would train nothing, since the network does not call it,"
                f" even if it uses its weights: {instead}"
            )

    def _keep_weights(self, backbone: nn.Module) -> None:
        layers = peft_layers(backbone).values()
        attentions = [layer for layer in layers if isinstance(layer.get_base_layer(), nn.MultiheadAttention)]
        self.keepers = nn.ModuleList(KeepWeights() for _ in attentions)
        for attention, keeper in zip(attentions, self.keepers, strict=True):
            assert isinstance(keeper, KeepWeights)
            keeper.hook_input(attention)
            keeper.hook_output(attention)

    def _gradients(self, example: Sequence[Any], keywords: Mapping[str, Any]) -> dict[str, torch.Tensor | None]:
        """Return what each added parameter gets in a backward pass.

        For that pass, what could hide another's gradient behind a factor of zero is moved off its start: what is
        trained, and weights of the backbone that are all zero, such as the last norm of a new residual block.
        """
        weights = dict(self.backbone.named_parameters())
        moved = [p for p in weights.values() if p.requires_grad or not (p.is_meta or p.any())]
        start = [parameter.detach().clone() for parameter in moved]
        try:
            with torch.no_grad():
                for parameter in moved:
                    step = torch.arange(parameter.numel(), device=parameter.device).cos()
                    parameter.add_(0.1 * step.view_as(parameter))
            return gradients(self.backbone, example, keywords, self.trained_in_backbone())
        finally:
            with torch.no_grad():
                for parameter, value in zip(moved, start, strict=True):
                    parameter.copy_(value)

    def _detach(self, backbone: nn.Module) -> None:
        super()._detach(backbone)
        take_out(backbone, merge=False)

    def hold(self) -> None:
        """Keep the frozen layers in eval mode and the added ones, such as LoRA's dropout, in the tuner's."""
        super().hold()
        for layer in peft_layers(self.backbone).values() if self._held else ():
            layer.train(self.training)
            layer.get_base_layer().eval()

    @contextmanager
    def enabled(self, flag: bool) -> Iterator[None]:
        """Within the context, switch peft's layers on or off."""
        layers = list(peft_layers(self.backbone).values())
        before = [not layer.disable_adapters for layer in layers]
        for layer in layers:
            layer.enable_adapters(flag)
        try:
            yield
        finally:
            for layer, state in zip(layers, before, strict=True):
                layer.enable_adapters(state)

    def merge_(self) -> nn.Module:
        """Write what was learned into the backbone's plain weights, detach, and return the backbone.

        Raises:
            UserError: if peft cannot write this method into weights, or a layer changes its weights before use.
        """
        layers = peft_layers(self.backbone)
        if any(type(layer).merge is BaseTunerLayer.merge for layer in layers.values()):
            raise UserError(f"peft's {self.config_class} has no plain form to merge into: lora does")
        for name, layer in layers.items():
            if not uses_weight_as_is(layer.get_base_layer()):
                raise UserError(
                    f"peft's {self.config_class} cannot be merged: {name} changes its weights before it uses them;"
                    " keep the tuner attached"
                )
        take_out(self.backbone, merge=True)
        return self.detach()


def _config(name: str, kwargs: Mapping[str, Any], target: list[str] | str) -> Any:
    settings = copy.deepcopy(dict(kwargs))
    if name == "IA3Config":
        # peft wants both lists or neither.
        settings.setdefault("feedforward_modules", [])
    return getattr(peft, name)(**settings, target_modules=target)


def _check(name: str, kwargs: Mapping[str, Any]) -> None:
    """Raise UserError for settings that peft does not know, or that change what is not the tuner's."""
    known = getattr(peft, name).__dataclass_fields__
    for key in kwargs:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            raise UserError(f"peft's {name} has no setting {key!r}" + (f": did you mean {near[0]!r}?" if near else ""))
    instead = {
        "target_modules": "name the modules by tuner.target_modules",
        "modules_to_save": "the head is trained anyway",
        "inference_mode": "call eval() to test",
        "bias": "use tuner=bitfit to train biases",
    }
    for key, what in instead.items():
        if kwargs.get(key) not in (None, False, "none"):
            raise UserError(f"peft's setting {key} is not taken here: {what}")
    if (start := kwargs.get("init_lora_weights", True)) not in STARTS:
        raise UserError(
            f"init_lora_weights {start!r} rewrites the frozen weights: use one of {', '.join(map(str, STARTS))}"
        )
