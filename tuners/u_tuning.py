"""U-Tuning (arXiv 2303.00690): frozen operations, each with any number of branches, x' = OP(x) + U-Tuner(x)."""

import operator
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any, Literal, NotRequired, TypedDict

import torch
from torch import nn

from common.errors import UserError
from common.ranges import PositiveFloat, PositiveInt
from tuners.attention import head_count
from tuners.branches import Activation, Adapter, Bank, Call, Free, Init
from tuners.exact import FrozenQuery, Gate
from tuners.hooks import SiteHook, main_output, with_main_output
from tuners.sites import Op, Patterns, Site, find, like
from tuners.tuner import Tuner


class Spec(TypedDict):
    """A branch beside one op of every block.

    Attributes:
        op: `mha`, `ffn`, `block`, or `conv` (diffusers' ResnetBlock2D); networks of convolutions have `block`.
        tuner: `adapter`; `prefix`, attention to trained keys and values; `prompt`, to trained tokens.
        dim: rank of the adapter, rows of prefix and prompt.
        input: what it reads: `op_in`, what the op receives, or `op_out`, what it gives. Where the two differ in shape
            (stride, other channels) it reads `op_out`.
        query: prefix and prompt: `free`, the input itself; `low_rank`, a trained map of it of rank dim; `frozen`, the
            queries of the op, an attention (timm Attention, nn.MultiheadAttention, diffusers Attention).
        gate: `constant`, times scale; `learned`, times a number that starts at scale; `exact` (frozen query), mixed as
            by one softmax, which is prefix and prompt tuning.
        scale: s, the branch's factor.
        init: `xavier`; `zero`, the network starts unchanged: the adapter's up-projection, the prefix's values, or the
            prompt's learned gate is zero; `lora` (adapter), Kaiming down and zero up.
        activation: of the adapter.
        depthwise: adapter on maps: a 3x3 depth-wise convolution in its middle; no if left out.
        layers: which of the op's sites, in the order of the forward pass, negative ones from the end; null for all.
    """

    op: Op
    tuner: Literal["adapter", "prefix", "prompt"]
    dim: PositiveInt
    input: Literal["op_in", "op_out"]
    query: Literal["free", "low_rank", "frozen"]
    gate: Gate
    scale: float
    init: Init
    activation: Activation
    depthwise: NotRequired[bool]
    layers: list[int] | None


class UTuning(Tuner):
    """Branches on MHA, FFN and block, in any number; those on one op add, so that their order does not matter.

    Args:
        lr: see base.
        specs: the branches.
    """

    def __init__(self, *, lr: PositiveFloat, specs: list[Spec]) -> None:
        super().__init__(lr=lr)
        if not specs:
            raise UserError("U-Tuning needs at least one branch in specs; tuner=linear trains none")
        for spec in specs:
            _check(spec)
        self.specs = specs
        self.sites = nn.ModuleDict()

    def _attach(
        self, backbone: nn.Module, example: Sequence[Any], keywords: Mapping[str, Any], patterns: Patterns
    ) -> None:
        found = find(backbone, example, keywords, patterns, list(dict.fromkeys(spec["op"] for spec in self.specs)))
        branches: dict[nn.Module, tuple[Site, list[nn.Module]]] = {}
        for spec in self.specs:
            for site in _layers(found[spec["op"]], spec):
                branches.setdefault(site.module, (site, []))[1].append(_branch(backbone, site, spec))
        # Names in a ModuleDict hold no dots.
        hooks = {site.name.replace(".", "/") or "all": SumHook(site, parts) for site, parts in branches.values()}
        self.sites = nn.ModuleDict(hooks)
        for hook in hooks.values():
            hook.hook_output(hook.site.module)


class SumHook(SiteHook):
    """Adds the sum of branches to an operation's output; each reads the operation's own input and output."""

    def __init__(self, site: Site, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.site = site
        self.branches = nn.ModuleList(branches)

    def on_output(self, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> Any:
        """Return the output with the sum added."""
        value = main_output(output, self.site)
        call = Call(module, args, kwargs, value)
        total = reduce(operator.add, (branch(call) for branch in self.branches))
        return with_main_output(output, self.site, value + total.to(value.dtype))


def _check(spec: Spec) -> None:
    """Raise UserError for a branch that is no method."""
    refusals = {
        "dim: give a rank or length of at least 1": spec["dim"] < 1,
        "query and gate are for prefix and prompt: an adapter has query: free and gate: constant": (
            spec["tuner"] == "adapter" and (spec["query"] != "free" or spec["gate"] != "constant")
        ),
        "init: lora is for adapters: a prefix or prompt has init: xavier or zero": (
            spec["tuner"] != "adapter" and spec["init"] == "lora"
        ),
        "depthwise is for adapters: leave it out of a prefix or prompt": (
            spec["tuner"] != "adapter" and spec.get("depthwise", False)
        ),
        "query: frozen needs op: mha and input: op_in, an attention that reads its own input; query: free does not": (
            spec["query"] == "frozen" and (spec["op"] != "mha" or spec["input"] != "op_in")
        ),
        "gate: exact needs query: frozen, scale: 1 and init: xavier; gate: constant and learned do not": (
            spec["gate"] == "exact" and (spec["query"], spec["scale"], spec["init"]) != ("frozen", 1, "xavier")
        ),
        "init: zero makes all rows of a prompt alike for good: use gate: learned, which then starts at zero": (
            (spec["tuner"], spec["init"]) == ("prompt", "zero") and spec["gate"] != "learned"
        ),
    }
    for reason, is_wrong in refusals.items():
        if is_wrong:
            raise UserError(f"{spec['tuner']} on {spec['op']}: {reason}")


def _layers(found: Sequence[Site], spec: Spec) -> list[Site]:
    """Return the sites that a branch is for."""
    if spec["layers"] is None:
        return list(found)
    wrong = [layer for layer in spec["layers"] if not -len(found) <= layer < len(found)]
    if wrong or not spec["layers"]:
        raise UserError(
            f"layers {spec['layers']}: this network has {len(found)} sites of op {spec['op']},"
            f" numbered from 0 to {len(found) - 1}"
        )
    return [found[index] for index in dict.fromkeys(layer % len(found) for layer in spec["layers"])]


def _branch(backbone: nn.Module, site: Site, spec: Spec) -> nn.Module:
    """Build one branch for one site."""
    weights = like(site.module)
    is_prompt, is_zero = spec["tuner"] == "prompt", spec["init"] == "zero"
    gate: float | nn.Parameter | None = spec["scale"]
    if spec["gate"] == "exact":
        gate = None
    elif spec["gate"] == "learned":
        gate = nn.Parameter(torch.tensor(0.0 if is_prompt and is_zero else spec["scale"], **weights))
    if spec["query"] == "frozen":
        return FrozenQuery(site.module, spec["dim"], is_prompt=is_prompt, gate=gate, zero=is_zero, like=weights)
    assert gate is not None
    return Free(_core(backbone, site, spec, weights), site, reads_output=_reads_output(site, spec), gate=gate)


def _reads_output(site: Site, spec: Spec) -> bool:
    return spec["input"] == "op_out" or not site.same_size or site.dim_in != site.dim_out


def _core(backbone: nn.Module, site: Site, spec: Spec, weights: dict[str, Any]) -> nn.Module:
    dim, length = site.dim_out, spec["dim"]
    if spec["tuner"] != "adapter":
        is_shared, is_low_rank = spec["tuner"] == "prompt", spec["query"] == "low_rank"
        heads = head_count(backbone, site)
        return Bank(dim, length, heads=heads, shared=is_shared, low_rank=is_low_rank, init=spec["init"], like=weights)
    is_depthwise = spec.get("depthwise", False)
    if is_depthwise and site.layout not in ("NCHW", "NHWC"):
        raise UserError(f"{site.name} has tokens, not maps, for a depth-wise convolution: leave depthwise out")
    activation, init = spec["activation"], spec["init"]
    return Adapter(dim, length, activation=activation, init=init, depthwise=is_depthwise, like=weights)
