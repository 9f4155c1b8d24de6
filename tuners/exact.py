"""Branches on a frozen attention's own queries; prefix and prompt tuning if the gate is exact (u_tuning §2.3)."""

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tuners.attention import FrozenAttention, view
from tuners.branches import Call, bank

Gate = Literal["exact", "constant", "learned"]


class FrozenQuery(nn.Module):
    """Attn(x Wq, K, V) through the frozen output projection.

    Gates: `constant` and `learned` add lambda times the branch. `exact` mixes as a softmax over own and further keys
    does, (1 - lambda) own + lambda branch with lambda = sigmoid(LSE(q K^T) - LSE(q K_own^T)) by token and head, for
    which the operation's own attention is computed a second time.

    Args:
        module: the attention.
        length: number of rows l; 2 l d parameters for a prefix, l d for a prompt.
        is_prompt: whether keys and values are the frozen projections of prompt tokens, biases and key norm included,
            rather than parameters, which stand beside the normalised keys.
        gate: None for `exact`, else the branch's factor, or the parameter that is trained for it.
        zero: whether the values of a prefix start at zero.
        like: device and dtype of the parameters.
    """

    def __init__(
        self,
        module: nn.Module,
        length: int,
        *,
        is_prompt: bool,
        gate: float | nn.Parameter | None,
        zero: bool,
        like: dict[str, Any],
    ) -> None:
        super().__init__()
        known = view(module)
        self.gate = gate
        self.tokens = bank(length, known.dim_context, like) if is_prompt else None
        self.keys = None if is_prompt else bank(length, known.dim, like)
        self.values = None if is_prompt else bank(length, known.dim, like)
        if zero and self.values is not None:
            nn.init.zeros_(self.values)

    def forward(self, call: Call) -> Tensor:
        """Return what is added to the attention's output, in its layout."""
        frozen = view(call.module, call.args, call.kwargs)
        queries = frozen.queries()
        keys, values = self._rows(frozen, queries.dtype)
        logits = _logits(queries, keys)
        mixed = logits.softmax(dim=-1).to(values.dtype) @ values
        if self.gate is not None:
            return self.gate * frozen.project(mixed)
        return frozen.project(_exchange(frozen, queries, logits, mixed))

    def _rows(self, frozen: FrozenAttention, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return keys and values of the rows, [h, l, dh] each."""
        if self.tokens is not None:
            return frozen.keys_and_values_of(self.tokens.to(dtype))
        assert self.keys is not None
        assert self.values is not None
        return frozen.split(self.keys.to(dtype)), frozen.split(self.values.to(dtype))


def _exchange(
    frozen: FrozenAttention,
    queries: Float[Tensor, "b h n dh"],
    logits: Float[Tensor, "b h n l"],
    mixed: Float[Tensor, "b h n dh"],
) -> Float[Tensor, "b h n dh"]:
    """Return lambda (branch - own): what the exact gate takes from the attention's own tokens and gives to the rows."""
    keys, values = frozen.keys_and_values()
    own, mask = _logits(queries, keys), frozen.mask()
    own = own if mask is None else own + mask
    share = (logits.logsumexp(dim=-1) - own.logsumexp(dim=-1)).sigmoid().unsqueeze(-1)
    return share.to(mixed.dtype) * (mixed - own.softmax(dim=-1).to(values.dtype) @ values)


def _logits(queries: Float[Tensor, "b h n dh"], keys: Float[Tensor, "*b h m dh"]) -> Float[Tensor, "b h n m"]:
    """Return logits in at least single precision, which the log-sum-exp needs."""
    logits = queries @ keys.transpose(-1, -2)
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
