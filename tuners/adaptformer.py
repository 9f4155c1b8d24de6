"""AdaptFormer (Chen et al. 2022, arXiv 2205.13535): a scaled bottleneck parallel to a block's feed-forward part."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from common.errors import UserError
from common.ranges import FractionBelowOne, PositiveFloat, PositiveInt
from tuners.hooks import SiteHook, first_input, main_output, with_main_output
from tuners.reach import run
from tuners.sites import Patterns, Site, like, sites
from tuners.tuner import Tuner


class Bottleneck(SiteHook):
    """s * up(dropout(ReLU(down x))), x the residual stream as LN2 receives it, added to what the block returns.

    Added there rather than to FFN(LN2 x), it is not touched by a layer scale in between.

    Args:
        site: the block.
        dim: width d of the residual stream.
        rank: width of the bottleneck.
        scale: s.
        dropout: rate of dropout.
        place: device and precision.
    """

    def __init__(
        self, site: Site, dim: int, *, rank: int, scale: float, dropout: float, place: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.site = site
        self.scale, self.dropout = scale, nn.Dropout(dropout)
        self.down = nn.Linear(dim, rank, **place)
        self.up = nn.Linear(rank, dim, **place)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)
        self._stream: Tensor | None = None

    def on_input(self, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Keep the residual stream that LN2 receives until the block returns."""
        self._stream = first_input(args, kwargs)

    def on_output(self, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> Any:
        """Return the block's output with the branch added."""
        stream, self._stream = self._stream, None
        assert stream is not None
        value = main_output(output, self.site)
        return with_main_output(output, self.site, value + self.branch(stream).reshape(value.shape).to(value.dtype))

    def branch(self, stream: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """Return s * up(dropout(ReLU(down x)))."""
        hidden = functional.relu(self.down(stream.to(self.down.weight.dtype)))
        return self.scale * self.up(self.dropout(hidden))


class AdaptFormer(Tuner):
    """x + FFN(LN2 x) + s * up(dropout(ReLU(down x))) in every transformer block.

    Args:
        rank: width of the bottleneck.
        scale: s.
        dropout: rate of dropout in the bottleneck.
        lr: learning rate of the bottlenecks.
    """

    def __init__(self, *, rank: PositiveInt, scale: float, dropout: FractionBelowOne, lr: PositiveFloat) -> None:
        super().__init__(lr=lr)
        self.rank, self.scale, self.dropout = rank, scale, dropout

    def _attach(
        self, backbone: nn.Module, example: Sequence[Any], keywords: Mapping[str, Any], patterns: Patterns
    ) -> None:
        found = sites(backbone, example, keywords, patterns)
        blocks = [site for site in found if site.op == "block"]
        pairs = [(ffn, _around(ffn, blocks)) for ffn in found if ffn.op == "ffn"]
        norms = _norms_before([ffn.module for ffn, _ in pairs], backbone, example, keywords)
        if not pairs or any(block is None or block.layout == "NCHW" or ffn.module not in norms for ffn, block in pairs):
            raise UserError(
                f"adaptformer reads the residual stream before the norm of a transformer's feed-forward part, which"
                f" {type(backbone).__name__} has not: use tuner=u_ffn or tuner=u_block"
            )
        options: dict[str, Any] = {"rank": self.rank, "scale": self.scale, "dropout": self.dropout}
        self.bottlenecks = nn.ModuleList()
        for ffn, block in pairs:
            assert block is not None
            hook = Bottleneck(block, ffn.dim_in, place=like(backbone), **options)
            hook.hook_input(norms[ffn.module])
            hook.hook_output(block.module)
            self.bottlenecks.append(hook)


def _around(part: Site, blocks: Sequence[Site]) -> Site | None:
    """Return the innermost block that holds a part."""
    holding = [block for block in blocks if part.name.startswith(f"{block.name}.")]
    return max(holding, key=lambda block: len(block.name), default=None)


def _norms_before(
    parts: Sequence[nn.Module], backbone: nn.Module, example: Sequence[Any], keywords: Mapping[str, Any]
) -> dict[nn.Module, nn.Module]:
    """Return, of each part whose very input is what a norm returned, that norm."""
    norms = [module for module in backbone.modules() if "norm" in type(module).__name__.lower()]
    made: list[tuple[Tensor, nn.Module]] = []
    before: dict[nn.Module, nn.Module] = {}

    def look(part: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        source = first_input(args, kwargs)
        # An identity that passes the norm's output on comes after it in the list.
        norm = next((norm for output, norm in made if output is source), None)
        if norm is not None:
            before[part] = norm

    handles = [norm.register_forward_hook(lambda m, _, out: made.append((out, m))) for norm in norms]
    handles += [part.register_forward_pre_hook(look, with_kwargs=True) for part in parts]
    try:
        with torch.no_grad():
            run(backbone, example, keywords)
    finally:
        for handle in handles:
            handle.remove()
    return before
