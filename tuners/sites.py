"""Where a tuner can be attached: the operations of a network, with the shapes and layouts seen in one forward pass."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from common.errors import UserError
from tuners.families import Op, operations
from tuners.probe import Layout, Seen, layout_of, watch

# Regular expressions (full match) of module names, by op.
Patterns = Mapping[str, str]

OPS: tuple[Op, ...] = ("mha", "ffn", "block", "conv")


class Site(NamedTuple):
    """An operation of the backbone.

    Attributes:
        name: dotted name in the backbone.
        module: the operation.
        op: what it is: attention, feed-forward part, whole block, or convolution block.
        dim_in: channels of its first input.
        dim_out: channels of its output.
        same_size: whether the output has as many positions as the input (no stride).
        layout: where the channels are.
        out_index: which item of a tuple that it returns is the output, None if it returns a tensor.
    """

    name: str
    module: nn.Module
    op: Op
    dim_in: int
    dim_out: int
    same_size: bool
    layout: Layout
    out_index: int | None


def sites(backbone: nn.Module, example: Sequence[Any], keywords: Mapping[str, Any], patterns: Patterns) -> list[Site]:
    """Return every operation that the backbone runs on an example, in the order in which it finishes them.

    Args:
        backbone: a network of a known family (`tuners.families`), or any network with patterns.
        example: positional inputs of one forward pass; on the meta device they need no data.
        keywords: keyword inputs of the same pass.
        patterns: regular expressions (full match) of module names, by op; they replace what the family says of that op.

    Raises:
        UserError: if there is no example, or a pattern names nothing that runs and that can be read.
    """
    if not example and not keywords:
        raise UserError("attach needs the inputs of one forward pass, such as attach(model, images)")
    if unknown := set(patterns) - set(OPS):
        raise UserError(f"patterns name the ops {', '.join(OPS)}, not {', '.join(sorted(unknown))}")
    named = _named(backbone, patterns)
    seen = watch(backbone, list(dict.fromkeys(module for _, module, _ in named)), example, keywords)
    batch = next((len(v) for v in (*example, *keywords.values()) if isinstance(v, Tensor) and v.ndim), None)
    order = {module: place for place, module in enumerate(seen)}
    found = [_site(name, module, op, seen[module], batch) for name, module, op in named if module in seen]
    for op, pattern in patterns.items():
        if not any(site is not None and site.op == op for site in found):
            raise UserError(
                f"pattern {pattern!r} for op {op} names nothing that {type(backbone).__name__} runs on the example"
                " and that takes and gives tokens or maps: it must match whole module names, such as 'layers.0'"
            )
    return sorted((site for site in found if site is not None), key=lambda site: order[site.module])


def _named(backbone: nn.Module, patterns: Patterns) -> list[tuple[str, nn.Module, Op]]:
    named = [(name, module, op) for name, module, op in operations(backbone) if op not in patterns]
    for op in OPS:
        if op in patterns:
            try:
                whole = re.compile(patterns[op]).fullmatch
            except re.error as error:
                raise UserError(f"pattern {patterns[op]!r} for op {op} is no regular expression: {error}") from None
            named += [(name, module, op) for name, module in backbone.named_modules() if whole(name)]
    return named


def _site(name: str, module: nn.Module, op: Op, seen: Seen, batch: int | None) -> Site | None:
    """Return a site, None for an operation that neither takes nor gives tokens or maps."""
    before = layout_of(seen.source, module, batch)
    # What comes out is laid out as what goes in: layers inside tell only of the latter.
    layout = before if len(seen.source) == len(seen.result) else layout_of(seen.result, module, batch)
    if before is None or layout is None:
        return None
    axis_in, axis_out = (1 if where == "NCHW" else -1 for where in (before, layout))
    dim_in, dim_out = seen.source[axis_in], seen.result[axis_out]
    positions = [list(shape) for shape in (seen.source, seen.result)]
    del positions[0][axis_in], positions[1][axis_out]
    return Site(name, module, op, dim_in, dim_out, positions[0] == positions[1], layout, seen.out_index)


def find(
    backbone: nn.Module,
    example: Sequence[Any],
    keywords: Mapping[str, Any],
    patterns: Patterns,
    ops: Sequence[Op],
) -> dict[Op, list[Site]]:
    """Return the sites of some ops, each in the order of the forward pass; arguments as in `sites`.

    A convolution block is the block of a network that has no others.

    Raises:
        UserError: if the network lacks one of them; the line says what it has.
    """
    by_op: dict[Op, list[Site]] = {}
    for site in sites(backbone, example, keywords, patterns):
        by_op.setdefault(site.op, []).append(site)
    if "block" not in by_op and "conv" in by_op:
        by_op["block"] = by_op["conv"]
    missing = next((op for op in ops if op not in by_op), None)
    if missing is not None:
        raise UserError(_refusal(backbone, missing, by_op))
    return {op: by_op[op] for op in ops}


def _refusal(backbone: nn.Module, missing: Op, by_op: Mapping[Op, Sequence[Site]]) -> str:
    name, pattern = type(backbone).__name__, f"name the modules by a pattern, such as patterns={{'{missing}': REGEX}}"
    if not by_op:
        return f"{name} is of no known family, so it has no op {missing}: {pattern}"
    has = ", ".join(f"{op} ({len(found)})" for op, found in by_op.items())
    would = " or ".join(f"tuner=u_{op}" for op in ("mha", "ffn", "block") if op in by_op)
    return f"{name} has no op {missing}, it has {has}: use {would}, or {pattern}"


def channels_last(x: Tensor, layout: Layout) -> Tensor:
    """Return a view with the channels last, `[*positions, c]`."""
    return x.permute(0, 2, 3, 1) if layout == "NCHW" else x


def channels_back(x: Tensor, layout: Layout) -> Tensor:
    """Return `channels_last` undone."""
    return x.permute(0, 3, 1, 2) if layout == "NCHW" else x


def like(module: nn.Module) -> dict[str, Any]:
    """Return device and dtype for a tuner's parameters beside a module: never less than single precision."""
    weight = next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))
    return {"device": weight.device, "dtype": torch.promote_types(weight.dtype, torch.float32)}
