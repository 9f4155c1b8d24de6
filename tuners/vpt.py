"""VPT (Jia et al. 2022, arXiv 2203.12119): trained tokens beside the image's, in the first block or in every one."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from common.errors import UserError
from common.ranges import FractionBelowOne, PositiveFloat, PositiveInt
from tuners.hooks import SiteHook, first_input, main_output, with_first_input, with_main_output
from tuners.reach import run
from tuners.sites import Patterns, Site, like, sites
from tuners.tuner import Tuner


class Prompts(SiteHook):
    """Inserts prompts before a block, and takes what became of them away after the same block or a later one.

    Args:
        first: the block before which they are inserted.
        last: the block after which they are taken away.
        length: number of prompts.
        start: index of the first prompt, after the class token and the registers.
        bound: they start uniform in (-bound, bound).
        dropout: rate of dropout on the prompts.
        place: device and precision.
    """

    def __init__(
        self,
        first: Site,
        last: Site,
        *,
        length: int,
        start: int,
        bound: float,
        dropout: float,
        place: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.site = last
        self.axis = 1 if first.layout == "BNC" else 0
        self.start = start
        self.prompts = nn.Parameter(torch.empty(1, length, first.dim_in, **place).uniform_(-bound, bound))
        self.dropout = nn.Dropout(dropout)

    def on_input(
        self, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the block's input, its tokens [b, n, d] with the prompts among them."""
        tokens = first_input(args, kwargs)
        rows: Float[Tensor, "b l d"] = self.dropout(self.prompts.expand(tokens.shape[1 - self.axis], -1, -1))
        rows = (rows if self.axis == 1 else rows.transpose(0, 1)).to(tokens.dtype)
        before, after = tokens.tensor_split([self.start], dim=self.axis)
        return with_first_input(args, kwargs, torch.cat((before, rows, after), dim=self.axis))

    def on_output(self, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> Any:
        """Return the block's output without the prompts' rows."""
        tokens = main_output(output, self.site)
        end = self.start + self.prompts.shape[1]
        before, _, after = tokens.tensor_split([self.start, end], dim=self.axis)
        return with_main_output(output, self.site, torch.cat((before, after), dim=self.axis))


class VPT(Tuner):
    """Prompts beside the tokens of a vision transformer.

    Deep, every block gets its own, and what became of the last block's is dropped, as overwriting them does; features
    between blocks have no prompts. Shallow, the first block gets them and they go through all blocks, so that features
    between blocks have `length` more tokens, after the class token.

    Args:
        length: number of prompts.
        deep: whether every block gets its own.
        dropout: rate of dropout on the prompts.
        lr: learning rate of the prompts.
    """

    def __init__(self, *, length: PositiveInt, deep: bool, dropout: FractionBelowOne, lr: PositiveFloat) -> None:
        super().__init__(lr=lr)
        self.length = length
        self.deep = deep
        self.dropout = dropout

    def _attach(
        self, backbone: nn.Module, example: Sequence[Any], keywords: Mapping[str, Any], patterns: Patterns
    ) -> None:
        blocks = [site for site in sites(backbone, example, keywords, patterns) if site.op == "block"]
        if not _is_sequence(blocks):
            raise UserError(
                f"vpt needs one sequence of tokens that goes through all blocks, which {type(backbone).__name__} has"
                " not: use tuner=u_block"
            )
        ends = [(block, block) for block in blocks] if self.deep else [(blocks[0], blocks[-1])]
        self.prompts = nn.ModuleList(
            Prompts(
                first,
                last,
                length=self.length,
                start=prefix_tokens(backbone, first.name),
                bound=prompt_bound(backbone, first.dim_in),
                dropout=self.dropout,
                place=like(backbone),
            )
            for first, last in ends
        )
        for hook, (first, last) in zip(self.prompts, ends, strict=True):
            assert isinstance(hook, Prompts)
            hook.hook_input(first.module)
            hook.hook_output(last.module)
        self._try(backbone, example, keywords)

    def _try(self, backbone: nn.Module, example: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        try:
            with torch.no_grad():
                run(backbone, example, keywords)
        except (RuntimeError, ValueError, IndexError, AssertionError):
            self._detach(backbone)
            raise UserError(
                f"the attention of {type(backbone).__name__} has a position for every token (relative or rotary), and"
                " vpt's prompts have none: use tuner=u_block or tuner=u_mha"
            ) from None


def _is_sequence(blocks: Sequence[Site]) -> bool:
    """Tell whether blocks stand in one list and hand on tokens of one width."""
    kinds = {(block.name.rpartition(".")[0], block.layout, block.dim_in, block.dim_out) for block in blocks}
    return len(kinds) == 1 and all(b.layout in ("BNC", "NBC") and b.dim_in == b.dim_out and b.same_size for b in blocks)


def prefix_tokens(backbone: nn.Module, block: str) -> int:
    """Return how many tokens (class token, registers) come before the image's, as the owner of a block says."""
    parts = block.split(".")
    for depth in range(len(parts) - 1, -1, -1):
        owner = backbone.get_submodule(".".join(parts[:depth]))
        if isinstance(count := getattr(owner, "num_prefix_tokens", None), int):
            return count
        if any(getattr(owner, name, None) is not None for name in ("class_embedding", "class_token", "cls_token")):
            return 1
    return 0


def prompt_bound(backbone: nn.Module, dim: int) -> float:
    """Return v = sqrt(6 / (c p p + d)) for patches of p x p pixels with c channels (3 in VPT's code)."""
    patches = (m for m in backbone.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == m.stride != (1, 1))
    patch = next(patches, None)
    return math.sqrt(6 / ((dim if patch is None else patch.weight[0].numel()) + dim))
