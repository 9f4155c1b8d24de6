"""Which form a file of weights has, by whom it was written, and its tensors under the names of a network."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from common.errors import UserError
from networks.weights.files import Content, kind_of, locate, read_content
from networks.weights.hugging_face_clip import hidden_activation, hugging_face_prefix, open_clip_names
from networks.weights.pickles import Placeholder, tensors_of

# What training scripts keep the weights under, in the order in which it is taken: an average (EMA) first.
_WRAPPERS = ("state_dict_ema", "model_ema", "teacher", "state_dict", "model_state_dict", "model")
_AVERAGES = {"state_dict_ema", "model_ema", "teacher"}


class Weights(NamedTuple):
    """The tensors of a file, not yet those of a network.

    Attributes:
        path: the path that the user gave.
        form: the form that was recognized, in words.
        tensors: by their names in the file; CLIP's have those of open_clip.
        content: everything in the file by name, for a checkpoint of this project.
        is_average: whether they are an average of the weights over training (EMA) that was stored next to them.
        activation: what the file says of CLIP's activation, "gelu" or "quick_gelu"; None if it says nothing.
    """

    path: str
    form: str
    tensors: Mapping[str, Tensor]
    content: Mapping[str, Any]
    is_average: bool = False
    activation: str | None = None


def read_weights(path: str, key: str, wanted: str = "") -> Weights:
    """Return the weights in a file, or in a folder as libraries and runs leave them; no code of a file is run.

    Args:
        path: a file of torch.save, TorchScript, .safetensors or .npz, or a folder with one.
        key: the key of the config that names it.
        wanted: which file belongs there and where it is from, to be told if it is missing.

    Raises:
        UserError: if there is no such file, or it cannot be read as weights, with the reason in one line.
    """
    file = check_file(path, key, wanted)
    try:
        return recognize(path, read_content(file))
    except ValueError as error:
        raise UserError(f"{key}: {file} {error}") from None


def check_file(path: str, key: str, wanted: str = "") -> Path:
    """Return the file of weights at a path, which by its first bytes may be one; its content is not read.

    Raises:
        UserError: if there is no such file, or it is something else.
    """
    try:
        file = locate(Path(path))
    except ValueError as error:
        raise UserError(f"{key}: {error}{wanted and f'; expected {wanted}'}") from None
    try:
        if file.suffix != ".json":
            kind_of(file)
    except ValueError as error:
        raise UserError(f"{key}: {file} {error}") from None
    return file


def recognize(path: str, content: Content) -> Weights:
    """Return the weights in a file's content.

    Raises:
        ValueError: if it holds no tensors by name.
    """
    value = content.value
    keys = value if isinstance(value, Mapping) else {}
    wrapper = next((name for name in _WRAPPERS if isinstance(keys.get(name), Mapping | Placeholder)), None)
    tensors = dict(tensors_of(value if wrapper is None else keys[wrapper]))
    # A run that trains nothing leaves a checkpoint without tensors.
    if not tensors and "hyper_parameters" not in keys:
        raise ValueError("holds no tensors by name: a state dict was expected")
    prefix = common_prefix(tensors)
    bare = [name.removeprefix(prefix) for name in tensors]
    form = _described(content, keys, wrapper, [*tensors, *bare])
    activation = "quick_gelu" if form.startswith("OpenAI") else None
    if (place := hugging_face_prefix(tensors)) is not None:
        tensors = open_clip_names({k.removeprefix(place): v for k, v in tensors.items() if k.startswith(place)})
        activation = hidden_activation(content.file)
    elif prefix:
        form += f", prefix '{prefix}'"
    return Weights(path, form, tensors, keys, wrapper in _AVERAGES, activation)


def common_prefix(names: Collection[str]) -> str:
    """Return what all names begin with, up to and with a dot, such as `module.`."""
    first, last = min(names, default=""), max(names, default="")
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[: first.rfind(".", 0, length) + 1]


def _described(content: Content, keys: Mapping[str, Any], wrapper: str | None, names: list[str]) -> str:
    """Return a form in words."""
    family = _family(names)
    if content.kind == "torchscript":
        return "OpenAI's TorchScript archive" if family == "open_clip's" else "a TorchScript archive"
    if isinstance(content.value, Placeholder):
        return f"{family} module, pickled as a whole"
    if "quire" in keys:
        return "a checkpoint of this project"
    if "pytorch-lightning_version" in keys:
        return "a checkpoint of Lightning"
    return {
        None: f"{family} state dict",
        "teacher": "DINO's checkpoint, of which the teacher",
        "state_dict_ema": "a checkpoint of timm's trainer, of which the EMA",
        "model_ema": "a checkpoint of DeiT's trainer, of which the EMA",
        "model": "the wrapper of DeiT and MAE" if family == "timm's" else f"{family} checkpoint under 'model'",
    }.get(wrapper, f"{family} training checkpoint")


def _family(names: list[str]) -> str:
    """Return whose names these are."""
    if hugging_face_prefix(names) is not None:
        return "Hugging Face's CLIP"
    if any(".visual." in f".{name}" for name in names):
        return "open_clip's"
    if any(name.startswith(("blocks.0.", "patch_embed.", "stages.0.")) for name in names):
        return "timm's"
    return "a plain"
