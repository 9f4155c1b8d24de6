"""Layers of the peft library in a network: where they go by default, and how they are taken out without a trace."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from peft.tuners.oft import OFTLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from common.errors import UserError
from tuners.hooks import SiteHook
from tuners.reach import called
from tuners.sites import Patterns, Site, sites

# Projections inside an attention: timm, diffusers, timm's EVA and transformers, BERT.
PROJECTIONS = (("qkv",), ("to_q", "to_v"), ("q_proj", "v_proj"), ("query", "value"))
KERNELS = ((1, 1), (3, 3))


class KeepWeights(SiteHook):
    """Puts an attention's own weights back after each pass through peft's LoRA on nn.MultiheadAttention.

    That layer adds the change to the weights before a pass and subtracts it afterwards, which rounds: without this, the
    frozen weights drift with every pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self._weights: tuple[nn.Parameter, ...] = ()

    def on_input(self, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Keep the weights."""
        self._weights = tuple(getattr(owner, name) for owner, name in _changed(module))

    def on_output(self, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> None:
        """Put them back."""
        for (owner, name), weight in zip(_changed(module), self._weights, strict=True):
            setattr(owner, name, weight)
        self._weights = ()


def _changed(layer: Any) -> tuple[tuple[nn.Module, str], tuple[nn.Module, str]]:
    attention = layer.get_base_layer()
    return (attention, "in_proj_weight"), (attention.out_proj.get_base_layer(), "weight")


def peft_layers(backbone: nn.Module) -> dict[str, Any]:
    """Return the layers that peft put into a network, by name, outer ones first."""
    return {name: module for name, module in backbone.named_modules() if isinstance(module, BaseTunerLayer)}


def take_out(backbone: nn.Module, *, merge: bool) -> None:
    """Put the plain layers back, with what peft's learned written into their weights or without; all is frozen then."""
    layers = peft_layers(backbone)
    for name, layer in layers.items():
        if any(name.startswith(f"{other}.") for other in layers):
            continue
        parent, _, child = name.rpartition(".")
        setattr(backbone.get_submodule(parent), child, _plain(layer, merge=merge))
    if hasattr(backbone, "peft_config"):
        del backbone.peft_config
    backbone.requires_grad_(False)


def _plain(layer: Any, *, merge: bool) -> nn.Module:
    if hasattr(layer, "unload_and_optionally_merge_module"):
        attention: nn.Module = layer.unload_and_optionally_merge_module(
            merge=merge, safe_merge=False, adapter_names=None
        )
        # peft registers the weights anew, after the biases; state dicts list them in that order.
        for owner, first in ((attention, "in_proj_weight"), (attention.get_submodule("out_proj"), "weight")):
            others = [name for name in owner._parameters if name != first]  # noqa: SLF001 - the only way to order them
            for name in others:
                owner._parameters[name] = owner._parameters.pop(name)  # noqa: SLF001
        return attention
    if merge:
        layer.merge()
    plain: nn.Module = layer.get_base_layer()
    return plain


def default_targets(
    backbone: nn.Module, example: Sequence[Any], keywords: Mapping[str, Any], patterns: Patterns, *, norms: bool
) -> str:
    """Return, as one regular expression, the modules that peft's layers go into when the user names none.

    Of those that run on the example: attention projections if there is attention (fused qkv; nn.MultiheadAttention as a
    whole; queries and values); else, in the blocks, 1x1 and 3x3 convolutions that are not grouped and the linear layers
    of feed-forward parts.

    Args:
        backbone: the network.
        example: positional inputs of one forward pass.
        keywords: keyword inputs of the same pass.
        patterns: regular expressions of module names by op, for networks of no known family.
        norms: return the layer norms instead.
    """
    ran = called(backbone, example, keywords)
    if norms:
        found = [n for n, m in ran.items() if isinstance(m, nn.LayerNorm) and m.weight is not None]
    else:
        operations = sites(backbone, example, keywords, patterns)
        found = [name for site in operations if site.op == "mha" for name in _projections(site)]
        if not any(site.op == "mha" for site in operations):
            found = list(_convolutions(ran, operations))
    if not found:
        what = "layer norm" if norms else "attention projection or convolution"
        raise UserError(
            f"{type(backbone).__name__} has no {what} that peft knows: name modules that run by target_modules=[...]"
        )
    # Among names in a list, peft takes each for the end of others too: norm for attn.norm.
    return "|".join(re.escape(name) for name in found)


def _projections(site: Site) -> list[str]:
    """Return the projections inside an attention; of nn.MultiheadAttention the whole, whose parts are never called."""
    if isinstance(site.module, nn.MultiheadAttention):
        return [site.name]
    for names in PROJECTIONS:
        if all(isinstance(getattr(site.module, name, None), nn.Linear) for name in names):
            return [f"{site.name}.{name}" for name in names]
    return []


def _convolutions(ran: Mapping[str, nn.Module], operations: Sequence[Site]) -> Iterator[str]:
    blocks = tuple(f"{site.name}." for site in operations if site.op in ("block", "conv"))
    feed_forwards = tuple(f"{site.name}." for site in operations if site.op == "ffn")
    for name, module in ran.items():
        if isinstance(module, nn.Linear) and name.startswith(feed_forwards):
            yield name
        is_dense = isinstance(module, nn.Conv2d) and module.groups == 1 and module.kernel_size in KERNELS
        if is_dense and (not blocks or name.startswith(blocks)):
            yield name


def dead(layers: Mapping[str, Any], gradients: Mapping[str, Tensor | None]) -> str | None:
    """Return the first layer of peft's with a parameter that gets no gradient or only zeros, None if there is none."""
    for name, gradient in gradients.items():
        # Without data there are no values to look at.
        if gradient is None or not (gradient.is_meta or gradient.any()):
            return max((layer for layer in layers if name.startswith(f"{layer}.")), key=len)
    return None


def refuse_wide_oft(layers: Mapping[str, Any]) -> None:
    """Raise ValueError for peft's OFT on convolutions wider than a pixel: it is no rotation, even at its start."""
    for name, layer in layers.items():
        if isinstance(layer, OFTLayer) and getattr(layer.get_base_layer(), "kernel_size", (1, 1)) != (1, 1):
            raise ValueError(f"peft's OFT adds up the overlapping patches of {name}")
