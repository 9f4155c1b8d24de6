"""Weights from a file into a network: under which prefix they are, what is left out or resampled, what misfits."""

import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from common.errors import UserError
from networks.weights.forms import Weights, common_prefix
from networks.weights.positions import resample_positions

# Parts next to a backbone: classifiers, MAE's decoder, tokens of masked patches.
_OTHER_PARTS = re.compile(r"(head|head_dist|fc|classifier|last_linear|pre_logits|decoder\w*|mask_token)(\.|$)")
_AVERAGES = {"ema", "average", "averaged", "teacher"}


class Selected(NamedTuple):
    """The tensors under one prefix of a file, without it, and whether they are an average over training (EMA)."""

    prefix: str
    tensors: dict[str, Tensor]
    is_average: bool


def select(weights: Weights, names: Collection[str]) -> Selected:
    """Return the tensors under the prefix that most names of a network are found under.

    Where two prefixes have equally many, an average (EMA) is taken, or else the first in the file.
    """
    wanted, counts = set(names), Counter[str]()
    for name in weights.tensors:
        parts = name.split(".")
        for start in range(len(parts)):
            if ".".join(parts[start:]) in wanted:
                counts["".join(f"{part}." for part in parts[:start])] += 1
    most = max(counts.values(), default=0)
    best = [prefix for prefix, count in counts.items() if count == most] or [""]
    prefix = next((one for one in best if _names_average(one)), best[0])
    tensors = {name.removeprefix(prefix): value for name, value in weights.tensors.items() if name.startswith(prefix)}
    return Selected(prefix, tensors, weights.is_average or _names_average(prefix))


def _names_average(prefix: str) -> bool:
    return bool(_AVERAGES & set(re.split(r"[._]", prefix)))


def fit(
    network: nn.Module,
    weights: Weights,
    refusal: str,
    *,
    is_unused: Callable[[str], bool] = lambda _: False,
    only_parts: bool = False,
) -> None:
    """Load weights into a network, all of its tensors or none.

    Position embeddings of another image size are resampled, and names of other projects translated where timm can. A
    warning says if an average (EMA) was taken or something resampled.

    Args:
        network: where to.
        weights: from `read_weights`.
        refusal: what the error begins with.
        is_unused: whether a tensor of the file, by its name, is left out; classifiers and decoders always are, where
            the network has none.
        only_parts: leave out everything outside the network's own children, as in a checkpoint of a larger module.

    Raises:
        UserError: if the file holds other weights, with the first difference in one line.
    """
    chosen = select(weights, network.state_dict())
    tensors, notes = resample_positions(network, chosen.tensors)
    problem = _difference(network, tensors, is_unused, only_parts=only_parts)
    if problem:
        translated, notes = resample_positions(network, _by_timm(network, weights.tensors))
        if _difference(network, translated, is_unused, only_parts=only_parts):
            raise UserError(f"{refusal}: {problem} (the file is {_described(weights, chosen)})")
        tensors = translated
    local = network.state_dict()
    network.load_state_dict(
        {name: value.reshape(local[name].shape) for name, value in tensors.items() if name in local}, strict=True
    )
    notes = ["it holds an average of the weights (EMA), which is taken"] * chosen.is_average + notes
    if notes:
        warnings.warn(f"{weights.path}: {'; '.join(notes)}", stacklevel=2)


def _described(weights: Weights, chosen: Selected) -> str:
    told = weights.form
    return told if not chosen.prefix or "prefix" in told else f"{told}, prefix '{chosen.prefix}'"


def _difference(
    network: nn.Module, tensors: Mapping[str, Tensor], is_unused: Callable[[str], bool], *, only_parts: bool
) -> str | None:
    """Return the first difference between tensors and what a network needs, None if they fit."""
    local = network.state_dict()
    # Old files have no counters of batches; torch starts them at 0.
    missing = [name for name in local if name not in tensors and not name.endswith("num_batches_tracked")]
    if missing:
        return f"it has no '{missing[0]}'" + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
    children = {name.split(".")[0] for name in local}
    for name, value in tensors.items():
        if name in local:
            shape, given = list(local[name].shape), list(value.shape)
            if shape != given and not value.numel() == local[name].numel() == 1:
                return f"'{name}' is {given}, should be {shape}"
        elif is_unused(name):
            continue
        elif name.split(".")[0] in children or not (only_parts or _OTHER_PARTS.match(name)):
            return f"it has '{name}', which this network has not"
    return None


def _by_timm(network: nn.Module, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return tensors under the names that timm gives them, for a network of timm's; else as they are."""
    translate: Any = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if translate is None:
        return tensors
    try:
        prefix = common_prefix(tensors)
        return translate({name.removeprefix(prefix): value for name, value in tensors.items()}, network)
    except Exception:  # noqa: BLE001 - it is written for files of one project, and raises any kind on others
        return tensors
