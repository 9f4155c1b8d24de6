"""One pass of a network, to see which modules it calls and which weights its output depends on."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import UserError


def run(backbone: nn.Module, example: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """Return the network's output for the example that a tuner was attached with."""
    if not example and not keywords:
        raise UserError("attach needs one example input of the network, from which it reads what runs")
    return backbone(*example, **keywords)


def called(backbone: nn.Module, example: Sequence[Any], keywords: Mapping[str, Any]) -> dict[str, nn.Module]:
    """Return the modules that are called in a forward pass, by name, in the order of their first call."""
    seen: dict[nn.Module, None] = {}
    handles = [m.register_forward_pre_hook(lambda module, _: seen.setdefault(module)) for m in backbone.modules()]
    try:
        with torch.no_grad():
            run(backbone, example, keywords)
    finally:
        for handle in handles:
            handle.remove()
    names = {module: name for name, module in backbone.named_modules()}
    return {names[module]: module for module in seen}


def gradients(
    backbone: nn.Module, example: Sequence[Any], keywords: Mapping[str, Any], parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor | None]:
    """Return the gradient of a weighted sum of the outputs by each parameter, None where the output does not depend.

    The weights differ from place to place, since a plain sum does not see what a last normalisation takes out.
    """
    before = {name: parameter.requires_grad for name, parameter in parameters.items()}
    try:
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        with torch.enable_grad():
            outputs = [out for out in float_tensors(run(backbone, example, keywords)) if out.requires_grad]
        # A number beside tensors, such as CLIP's logit scale, is no feature.
        outputs = [out for out in outputs if out.ndim] or outputs
        if not outputs:
            return dict.fromkeys(parameters)
        weights = [torch.arange(out.numel(), device=out.device).cos().to(out.dtype).view_as(out) for out in outputs]
        found = torch.autograd.grad(outputs, list(parameters.values()), weights, allow_unused=True)
    finally:
        for name, parameter in parameters.items():
            parameter.requires_grad_(before[name])
    return dict(zip(parameters, found, strict=True))


def uses_weight_as_is(layer: nn.Module) -> bool:
    """Tell whether twice the weight gives twice the output, less the bias: whether a change can be merged into it.

    Convolutions that standardise their weight first (timm's StdConv2d, in BiT networks) are found out by trying.
    """
    if not isinstance(layer, nn.Conv2d) or type(layer).forward is nn.Conv2d.forward or layer.weight.is_meta:
        return True
    trial = copy.deepcopy(layer).double()
    size = [(kernel - 1) * step + 1 for kernel, step in zip(layer.kernel_size, layer.dilation, strict=True)]
    x = torch.ones(1, layer.in_channels, *size).to(trial.weight)
    x = x * torch.arange(x.numel(), device=x.device).cos().view_as(x)
    with torch.no_grad():
        once = trial(x) - trial(0 * x)
        trial.weight.mul_(2)
        return torch.allclose(trial(x) - trial(0 * x), 2 * once)


def float_tensors(output: Any) -> Iterator[Tensor]:
    """Yield the floating-point tensors in what a network returns: a tensor, or tuples, lists and mappings of them."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Mapping):
        yield from (tensor for value in output.values() for tensor in float_tensors(value))
    elif isinstance(output, Sequence) and not isinstance(output, str):
        yield from (tensor for value in output for tensor in float_tensors(value))
