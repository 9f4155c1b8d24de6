"""SSF (Lian et al. 2022, arXiv 2210.08823): scale and shift the output of every layer; both fold into its weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from common.errors import UserError
from common.ranges import NonNegativeFloat, PositiveFloat
from tuners.hooks import SiteHook
from tuners.reach import called, gradients, uses_weight_as_is
from tuners.sites import Patterns, like
from tuners.tuner import Tuner


class ScaleShift(SiteHook):
    """y = gamma * x + beta, per channel, after a layer.

    Args:
        channels: channels of the layer's output.
        axis: where they are.
        std: deviation at the start of gamma from one and of beta from zero.
        place: device and precision.
    """

    def __init__(self, channels: int, axis: int, std: float, place: Mapping[str, Any]) -> None:
        super().__init__()
        self.axis = axis
        self.gamma = nn.Parameter(torch.empty(channels, **place).normal_(1.0, std))
        self.beta = nn.Parameter(torch.empty(channels, **place).normal_(0.0, std))

    def on_output(
        self, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], output: Float[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """Return the layer's output, scaled and shifted."""
        shape = [1] * output.ndim
        shape[self.axis] = -1
        return (output * self.gamma.view(shape) + self.beta.view(shape)).to(output.dtype)


class SSF(Tuner):
    """Scale and shift after every linear layer, convolution and norm that runs.

    On a ViT these are the patch embedding, LN1, qkv, proj, LN2, fc1 (before the GELU), fc2 and the last LN
    (u_tuning §2.6).

    Args:
        std: deviation of gamma from one and of beta from zero at the start.
        lr: learning rate of gamma and beta.
    """

    def __init__(self, *, std: NonNegativeFloat, lr: PositiveFloat) -> None:
        super().__init__(lr=lr)
        self.std = std
        self._layers: dict[str, str] = {}

    def _attach(
        self, backbone: nn.Module, example: Sequence[Any], keywords: Mapping[str, Any], patterns: Patterns
    ) -> None:
        layers = {name: module for name, module in backbone.named_modules() if _is_layer(module)}
        ran = called(backbone, example, keywords)
        weights = {name: layer.get_parameter("weight") for name, layer in layers.items()}
        used = [name for name, g in gradients(backbone, example, keywords, weights).items() if g is not None]
        if hidden := [name for name in used if name not in ran]:
            raise UserError(
                f"ssf scales what a layer returns, and {type(backbone).__name__} uses {hidden[0]} without calling it"
                ": use tuner=lora, tuner=bitfit or tuner=u_block"
            )
        if not used:
            raise UserError(f"{type(backbone).__name__} has no layer that ssf could scale: use tuner=u_block")
        place = like(backbone)
        self.layers = nn.ModuleList(ScaleShift(len(weights[n]), _axis(layers[n]), self.std, place) for n in used)
        self._layers = dict(zip(used, map(str, range(len(used))), strict=True))
        for name, index in self._layers.items():
            self._hook(index).hook_output(layers[name])

    def _hook(self, index: str) -> ScaleShift:
        hook = self.layers.get_submodule(index)
        assert isinstance(hook, ScaleShift)
        return hook

    def merge_(self) -> nn.Module:
        """Write gamma * W and gamma * b + beta into the layers' weights and biases (SSF, equation 3), and detach.

        Raises:
            UserError: if a layer has no bias to take the shift or changes its weights before use; nothing is written.
        """
        layers = {name: self.backbone.get_submodule(name) for name in self._layers}
        if bare := [name for name, layer in layers.items() if getattr(layer, "bias", None) is None]:
            raise UserError(f"ssf cannot be merged: {bare[0]} has no bias to take the shift; keep the tuner attached")
        if changed := [name for name, layer in layers.items() if not uses_weight_as_is(layer)]:
            first = f"{changed[0]} changes its weights before it uses them"
            raise UserError(f"ssf cannot be merged: {first}; keep the tuner attached")
        with torch.no_grad():
            for name, layer in layers.items():
                hook = self._hook(self._layers[name])
                weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
                weight.mul_(hook.gamma.view(-1, *[1] * (weight.ndim - 1)))
                bias.mul_(hook.gamma).add_(hook.beta)
        return self.detach()


def _is_layer(module: nn.Module) -> bool:
    # A norm with an activation inside returns more than a norm does, and one without weights has nothing to merge into.
    is_norm = "norm" in type(module).__name__.lower() and not hasattr(module, "act")
    weight = getattr(module, "weight", None)
    return isinstance(module, nn.Linear | nn.Conv2d) or (is_norm and isinstance(weight, nn.Parameter))


def _axis(layer: nn.Module) -> int:
    channels_first = isinstance(layer, nn.Conv2d | nn.GroupNorm) or type(layer).__name__.endswith("2d")
    return 1 if channels_first else -1
