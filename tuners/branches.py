"""The free branches of U-Tuning (u_tuning §2.4), beside any operation, whatever it is inside; channels are last."""

from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tuners.hooks import first_input
from tuners.sites import Site, channels_back, channels_last

Init = Literal["xavier", "zero", "lora"]
Activation = Literal["gelu", "relu", "silu"]
ACTIVATIONS: dict[Activation, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU}


class Call(NamedTuple):
    """One call of an operation: what it was called with, and the tensor that it gave before any branch was added."""

    module: nn.Module
    args: Any
    kwargs: Any
    value: Tensor


class Adapter(nn.Module):
    """Adapter-like: up(phi(down x)); on maps these are 1x1 convolutions, if asked for with a depth-wise one between.

    Args:
        dim: channels d.
        rank: channels r in the middle; 2 d r + r + d parameters.
        activation: phi.
        init: `xavier`, both weights Xavier-uniform and biases N(0, 1e-6) [ModelScope petl.py]; `zero`, the same with
            up zero; `lora`, down Kaiming-uniform with a = sqrt 5, the rest zero [unify-parameter-efficient-tuning].
        depthwise: whether there is a 3x3 convolution in the middle (maps only); it starts as the identity.
        like: device and dtype of the parameters.
    """

    def __init__(
        self, dim: int, rank: int, *, activation: Activation, init: Init, depthwise: bool, like: dict[str, Any]
    ) -> None:
        super().__init__()
        self.down = nn.Linear(dim, rank, **like)
        self.middle = nn.Conv2d(rank, rank, 3, padding=1, groups=rank, **like) if depthwise else None
        self.activation = ACTIVATIONS[activation]()
        self.up = nn.Linear(rank, dim, **like)
        self._reset(init)

    def _reset(self, init: Init) -> None:
        if init == "lora":
            nn.init.kaiming_uniform_(self.down.weight, a=5**0.5)
            nn.init.zeros_(self.down.bias)
        else:
            nn.init.xavier_uniform_(self.down.weight)
            nn.init.normal_(self.down.bias, std=1e-6)
        if init == "xavier":
            nn.init.xavier_uniform_(self.up.weight)
            nn.init.normal_(self.up.bias, std=1e-6)
        else:
            nn.init.zeros_(self.up.weight)
            nn.init.zeros_(self.up.bias)
        if self.middle is not None and self.middle.bias is not None:
            nn.init.dirac_(self.middle.weight, groups=self.middle.groups)
            nn.init.zeros_(self.middle.bias)

    def forward(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """Return the branch's output."""
        middle = self.down(x)
        if self.middle is not None:
            middle = self.middle(middle.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.up(self.activation(middle))


class Bank(nn.Module):
    """Prefix-like, Attn(query(x), K, V), or prompt-like, K = V; per head, every position by itself.

    Args:
        dim: channels d.
        length: number of rows l of K and V; 2 l d parameters, l d if they are shared.
        heads: number of heads.
        shared: whether K and V are one (prompt-like).
        low_rank: whether the query is a trained map of rank l of x rather than x itself; 2 l d more parameters.
        init: `xavier`; `zero`, with V zero.
        like: device and dtype of the parameters.
    """

    def __init__(
        self, dim: int, length: int, *, heads: int, shared: bool, low_rank: bool, init: Init, like: dict[str, Any]
    ) -> None:
        super().__init__()
        self.heads = heads
        self.query = low_rank_map(dim, length, like) if low_rank else nn.Identity()
        self.keys = bank(length, dim, like)
        self.values = None if shared else bank(length, dim, like)
        if init == "zero" and self.values is not None:
            nn.init.zeros_(self.values)

    def forward(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """Return the branch's output."""
        queries, keys = self._split(self.query(x)), self._split(self.keys)
        values = keys if self.values is None else self._split(self.values)
        logits = torch.einsum("...hd,lhd->...hl", queries, keys) * keys.shape[-1] ** -0.5
        return torch.einsum("...hl,lhd->...hd", logits.softmax(dim=-1), values).flatten(-2)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))


class Free(nn.Module):
    """A branch that needs nothing of the operation but what goes in or comes out.

    Args:
        core: maps tensors with channels last.
        site: what it stands beside.
        reads_output: read what the operation gives (the embedded adapter) rather than what it receives.
        gate: the branch's factor, or the parameter that is trained for it.
    """

    def __init__(self, core: nn.Module, site: Site, *, reads_output: bool, gate: float | nn.Parameter) -> None:
        super().__init__()
        self.core, self.layout, self.reads_output, self.gate = core, site.layout, reads_output, gate
        # A factor of one would cost a pass over the tokens.
        self.is_gated = isinstance(gate, nn.Parameter) or gate != 1

    def forward(self, call: Call) -> Tensor:
        """Return what is added to the operation's output, in its layout."""
        x = call.value if self.reads_output else first_input(call.args, call.kwargs)
        weight = next(self.core.parameters())
        found = channels_back(self.core(channels_last(x, self.layout).to(weight.dtype)), self.layout)
        return self.gate * found if self.is_gated else found


def bank(length: int, dim: int, like: dict[str, Any]) -> nn.Parameter:
    """Return rows of a prefix or prompt, Xavier-uniform over [1, l, d] as released [ModelScope petl.py]."""
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, length, dim, **like))[0])


def low_rank_map(dim: int, rank: int, like: dict[str, Any]) -> nn.Sequential:
    """Return a linear map of low rank without biases."""
    layers = nn.Linear(dim, rank, bias=False, **like), nn.Linear(rank, dim, bias=False, **like)
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight)
    return nn.Sequential(*layers)
