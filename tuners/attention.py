"""Views on frozen attention: queries, keys and values per head, and the output projection, by its own weights."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from common.errors import UserError
from tuners.families import kind
from tuners.sites import Site

Heads = Float[Tensor, "b h n dh"]
Rows = Float[Tensor, "h l dh"]


class FrozenAttention(ABC):
    """What one call of a frozen attention computes with: it returns `project(softmax(q k^T + mask) v) + bias`.

    Attributes:
        heads: number of heads.
        dim: channels of all heads together.
        dim_context: channels of what the keys and values are computed from.
    """

    heads: int
    dim: int
    dim_context: int

    @abstractmethod
    def queries(self) -> Heads:
        """Return the queries, normalised and scaled."""

    @abstractmethod
    def keys_and_values(self) -> tuple[Heads, Heads]:
        """Return the keys, normalised, and the values of the call's own tokens."""

    @abstractmethod
    def keys_and_values_of(self, tokens: Float[Tensor, "l dc"]) -> tuple[Rows, Rows]:
        """Return the keys, normalised, and the values of further tokens."""

    @abstractmethod
    def mask(self) -> Tensor | None:
        """Return what the call adds to the logits, in a shape that broadcasts to [b, h, n, m]."""

    @abstractmethod
    def project(self, mixed: Heads) -> Tensor:
        """Return the output projection without its bias, in the layout of the call's output."""

    def split(self, x: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b h n dh"]:
        """Return channels as heads."""
        return x.unflatten(-1, (self.heads, -1)).transpose(-3, -2)


class TimmAttention(FrozenAttention):
    """`timm.layers.Attention`: fused qkv, q_norm, k_norm, gated; called as (x, attn_mask, is_causal)."""

    def __init__(self, module: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        if not isinstance(module.norm, nn.Identity):
            raise _refusal("timm attention that normalises before its output projection (scale_norm)")
        self.module = module
        self.call = dict(zip(("x", "attn_mask", "is_causal"), args, strict=False)) | dict(kwargs)
        self.heads, self.dim, self.dim_context = module.num_heads, module.qkv.out_features // 3, module.qkv.in_features

    def queries(self) -> Heads:
        """See base."""
        return self.module.q_norm(self.split(_rows(self.module.qkv, self.call["x"], 0, self.dim))) * self.module.scale

    def keys_and_values(self) -> tuple[Heads, Heads]:
        """See base."""
        return self.keys_and_values_of(self.call["x"])

    def keys_and_values_of(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """See base."""
        keys, values = _rows(self.module.qkv, tokens, self.dim, 3 * self.dim).chunk(2, dim=-1)
        return self.module.k_norm(self.split(keys)), self.split(values)

    def mask(self) -> Tensor | None:
        """See base; a boolean mask says what is kept."""
        x, mask = self.call["x"], self.call.get("attn_mask")
        if self.call.get("is_causal"):
            return _additive(torch.ones(x.shape[1], x.shape[1], device=x.device).triu(1).bool(), x)
        return _additive(~mask, x) if mask is not None and mask.dtype == torch.bool else mask

    def project(self, mixed: Heads) -> Tensor:
        """See base."""
        joined = mixed.transpose(1, 2).flatten(2)
        if getattr(self.module, "gate", None) is not None:
            joined = joined * self.module.gate(self.call["x"]).sigmoid()
        return functional.linear(joined, self.module.proj.weight)


class TorchAttention(FrozenAttention):
    """`nn.MultiheadAttention`, self or cross, batch first or not; open_clip and torch call it with masks or without."""

    NAMES = ("query", "key", "value", "key_padding_mask", "need_weights", "attn_mask", "average_attn_weights")

    def __init__(self, module: nn.MultiheadAttention, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        if module.bias_k is not None or module.add_zero_attn:
            raise _refusal("nn.MultiheadAttention with add_bias_kv or add_zero_attn")
        if module.kdim != module.vdim:
            raise _refusal("nn.MultiheadAttention whose keys and values are of different sources (kdim, vdim)")
        self.module = module
        self.call = dict(zip(self.NAMES, args, strict=False)) | dict(kwargs)
        self.heads, self.dim, self.dim_context = module.num_heads, module.embed_dim, module.kdim

    def _linear(self, x: Tensor, which: int) -> Tensor:
        module, bias = self.module, self.module.in_proj_bias
        if module.in_proj_weight is None:
            weight = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)[which]
        else:
            weight = module.in_proj_weight.chunk(3)[which]
        return self.split(functional.linear(x, weight, None if bias is None else bias.chunk(3)[which]))

    def _batch_first(self, name: str) -> Tensor:
        x: Tensor = self.call[name]
        return x if self.module.batch_first else x.transpose(0, 1)

    def queries(self) -> Heads:
        """See base."""
        return self._linear(self._batch_first("query"), 0) * self.module.head_dim**-0.5

    def keys_and_values(self) -> tuple[Heads, Heads]:
        """See base."""
        return self._linear(self._batch_first("key"), 1), self._linear(self._batch_first("value"), 2)

    def keys_and_values_of(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """See base."""
        return self._linear(tokens, 1), self._linear(tokens, 2)

    def mask(self) -> Tensor | None:
        """See base; a boolean mask says what is left out."""
        x, total = self.call["query"], None
        for name in ("attn_mask", "key_padding_mask"):
            mask = self.call.get(name)
            if mask is None:
                continue
            mask = _additive(mask, x) if mask.dtype == torch.bool else mask
            if name == "key_padding_mask":
                mask = mask[:, None, None, :]
            elif mask.ndim == 3:
                mask = mask.unflatten(0, (-1, self.heads))
            total = mask if total is None else total + mask
        return total

    def project(self, mixed: Heads) -> Tensor:
        """See base."""
        out = functional.linear(mixed.transpose(1, 2).flatten(2), self.module.out_proj.weight)
        return out if self.module.batch_first else out.transpose(0, 1)


class DiffusersAttention(FrozenAttention):
    """`diffusers` Attention with its default processor, self or cross, on tokens or maps."""

    NAMES = ("hidden_states", "encoder_hidden_states", "attention_mask")

    def __init__(self, module: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        if type(module.processor).__name__ != "AttnProcessor2_0":
            raise _refusal(f"diffusers attention with the processor {type(module.processor).__name__}")
        parts = ("spatial_norm", "norm_cross", "added_kv_proj_dim")
        if any(getattr(module, part) is not None for part in parts) or module.inner_kv_dim != module.inner_dim:
            raise _refusal("diffusers attention with added or grouped keys, or a norm on its context")
        self.module = module
        self.call = dict(zip(self.NAMES, args, strict=False)) | dict(kwargs)
        self.heads, self.dim, self.dim_context = module.heads, module.inner_dim, module.to_k.in_features

    def _tokens(self) -> Float[Tensor, "b n d"]:
        x: Tensor = self.call["hidden_states"]
        x = x.flatten(2).transpose(1, 2) if x.ndim == 4 else x
        norm = self.module.group_norm
        return x if norm is None else norm(x.transpose(1, 2)).transpose(1, 2)

    def _context(self) -> Float[Tensor, "b m dc"]:
        context = self.call.get("encoder_hidden_states")
        return self._tokens() if context is None else context

    def _normed(self, x: Tensor, norm: nn.Module | None) -> Tensor:
        return self.split(x) if norm is None else norm(self.split(x))

    def queries(self) -> Heads:
        """See base."""
        queries = self._normed(self.module.to_q(self._tokens()), self.module.norm_q)
        return queries * (self.dim // self.heads) ** -0.5

    def keys_and_values(self) -> tuple[Heads, Heads]:
        """See base."""
        return self.keys_and_values_of(self._context())

    def keys_and_values_of(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """See base."""
        return self._normed(self.module.to_k(tokens), self.module.norm_k), self.split(self.module.to_v(tokens))

    def mask(self) -> Tensor | None:
        """See base."""
        mask = self.call.get("attention_mask")
        if mask is None:
            return None
        batch, length, _ = self._context().shape
        return self.module.prepare_attention_mask(mask, length, batch).unflatten(0, (batch, self.heads))

    def project(self, mixed: Heads) -> Tensor:
        """See base."""
        out = functional.linear(mixed.transpose(1, 2).flatten(2), self.module.to_out[0].weight)
        x = self.call["hidden_states"]
        out = out.transpose(1, 2).unflatten(2, x.shape[2:]) if x.ndim == 4 else out
        return out / self.module.rescale_output_factor


VIEWS: Mapping[str, Callable[[Any, Sequence[Any], Mapping[str, Any]], FrozenAttention]] = {
    "timm.layers.attention.Attention": TimmAttention,
    "torch.nn.modules.activation.MultiheadAttention": TorchAttention,
    "diffusers.models.attention_processor.Attention": DiffusersAttention,
}


def view(module: nn.Module, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> FrozenAttention:
    """Return the view on one call of an attention; without arguments only its attributes can be read.

    Raises:
        UserError: if it is an attention that we do not know from inside.
    """
    known = VIEWS.get(kind(module))
    if known is None:
        raise _refusal(kind(module))
    return known(module, args, kwargs or {})


def head_count(backbone: nn.Module, site: Site) -> int:
    """Return the number of heads of the attention in a site, or else around it; 1 where there is none."""
    name = site.name
    while True:
        for part in backbone.get_submodule(name).modules():
            heads = getattr(part, "num_heads", None) or getattr(part, "heads", None)
            if isinstance(heads, int) and site.dim_out % heads == 0:
                return heads
        if not name:
            return 1
        name = name.rpartition(".")[0]


def _rows(linear: nn.Linear, x: Tensor, start: int, stop: int) -> Tensor:
    """Return some of the outputs of a linear layer."""
    return functional.linear(x, linear.weight[start:stop], None if linear.bias is None else linear.bias[start:stop])


def _additive(left_out: Tensor, x: Tensor) -> Tensor:
    """Return a mask that is added to logits."""
    return torch.zeros(left_out.shape, dtype=x.dtype, device=x.device).masked_fill(left_out, float("-inf"))


def _refusal(what: str) -> UserError:
    return UserError(f"query: frozen does not know {what}: query: free works on any attention")
