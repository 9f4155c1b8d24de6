"""Prefix tuning (Li & Liang 2021), embedded: trained keys and values beside those of the image (u_tuning §2.2)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from timm.layers import Attention
from torch import Tensor, nn
from torch.nn import functional

from common.errors import UserError
from common.ranges import PositiveFloat, PositiveInt
from tuners.hooks import SiteHook
from tuners.reach import called
from tuners.sites import Patterns, like
from tuners.tuner import Tuner


class Places(SiteHook):
    """Makes room for the prefix at the end of an attention's tokens, and takes it away from the output.

    The attention itself then works on the longer sequence; what its extra queries find is dropped.

    Args:
        length: tokens of the prefix.
    """

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length

    def on_input(
        self, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the tokens with zeros after them, and a mask that lets every token see the prefix."""
        tokens, mask = _inputs(*args, **kwargs)
        longer = functional.pad(tokens, (0, 0, 0, self.length))
        if mask is None:
            return (longer,), {}
        is_bool = mask.dtype == torch.bool
        rows = 0 if mask.shape[-2] == 1 else self.length
        return (longer,), {"attn_mask": functional.pad(mask, (0, self.length, 0, rows), value=1.0 if is_bool else 0.0)}

    def on_output(
        self, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], output: Float[Tensor, "b m d"]
    ) -> Float[Tensor, "b n d"]:
        """Return the output of the tokens themselves."""
        return output[:, : -self.length]


class Values(SiteHook):
    """Puts the prefix's values into what the fused qkv projection returns.

    Args:
        length: tokens of the prefix.
        dim: width of the attention, all heads together.
        place: device and precision.
    """

    def __init__(self, length: int, dim: int, place: Mapping[str, Any]) -> None:
        super().__init__()
        self.rows = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, length, dim, **place)))

    def on_output(
        self, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], output: Float[Tensor, "b m e"]
    ) -> Float[Tensor, "b m e"]:
        """Return queries, keys and values, the last values those of the prefix."""
        _, length, dim = self.rows.shape
        rows = functional.pad(self.rows, (2 * dim, 0)).expand(len(output), -1, -1)
        return torch.cat((output[:, :-length], rows.to(output.dtype)), dim=1)


class Keys(SiteHook):
    """Puts the prefix's keys beside those of the image, after the norm of the keys if there is one.

    Args:
        length: tokens of the prefix.
        dim: width of the attention, all heads together.
        place: device and precision.
    """

    def __init__(self, length: int, dim: int, place: Mapping[str, Any]) -> None:
        super().__init__()
        self.rows = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, length, dim, **place)))

    def on_output(
        self, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], output: Float[Tensor, "b h m c"]
    ) -> Float[Tensor, "b h m c"]:
        """Return the keys, the last ones those of the prefix."""
        batch, heads, _, channels = output.shape
        length = self.rows.shape[1]
        rows = self.rows.view(length, heads, channels).transpose(0, 1).expand(batch, -1, -1, -1)
        return torch.cat((output[:, :, :-length], rows.to(output.dtype)), dim=2)


class Prefix(Tuner):
    """Attn(x Wq, [x Wk; K_pre], [x Wv; V_pre]) in every attention of timm's (u_tuning §2.2).

    As released (u_tuning §2.5): Xavier at the start, after the image's keys, no re-parametrising MLP, no gate.

    Args:
        length: tokens of the prefix in each attention.
        lr: learning rate of keys and values.
    """

    def __init__(self, *, length: PositiveInt, lr: PositiveFloat) -> None:
        super().__init__(lr=lr)
        self.length = length

    def _attach(
        self, backbone: nn.Module, example: Sequence[Any], keywords: Mapping[str, Any], patterns: Patterns
    ) -> None:
        found = [m for m in called(backbone, example, keywords).values() if type(m).forward is Attention.forward]
        if not found:
            raise UserError(
                f"{type(backbone).__name__} has none of timm's Attention, the only one that prefix goes into: use"
                " tuner=u_tuning with {op: mha, tuner: prefix, query: frozen, gate: exact}, which computes the same in"
                " nn.MultiheadAttention and diffusers' Attention, or tuner=u_block"
            )
        place = like(backbone)
        self.places, self.keys, self.values = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for attention in found:
            assert isinstance(attention, Attention)
            dim = attention.num_heads * attention.head_dim
            room, keys, values = Places(self.length), Keys(self.length, dim, place), Values(self.length, dim, place)
            room.hook_input(attention)
            room.hook_output(attention)
            keys.hook_output(attention.k_norm)
            values.hook_output(attention.qkv)
            self.places.append(room)
            self.keys.append(keys)
            self.values.append(values)


def _inputs(tokens: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> tuple[Tensor, Tensor | None]:
    # A causal mask is written out, since the prefix is seen by every token.
    if is_causal:
        size = tokens.shape[1]
        return tokens, torch.ones(size, size, dtype=torch.bool, device=tokens.device).tril()
    return tokens, attn_mask
