"""Files of weights: which kind a file is by its first bytes, and what it holds."""

import json
import re
import zipfile
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from networks.weights.pickles import read_pickled, read_torchscript

Kind = Literal["torch", "torchscript", "safetensors", "npz"]

EXPECTED = "expected a file of torch.save, .safetensors or .npz"
# Where libraries put weights in a folder; the last is a run's of this project.
IN_FOLDERS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
    "checkpoints/best.ckpt",
)
_HEAD_BYTES = 512
# The number that files of torch.save begin with that are no zip archives.
_LEGACY_MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")


class Content(NamedTuple):
    """What a file holds, its kind, and the file that was read."""

    value: Any
    kind: Kind
    file: Path


def locate(path: Path) -> Path:
    """Return the file of weights at a path: the file itself, or the one in a folder that a library or a run has left.

    Raises:
        ValueError: if there is none, with what is wrong.
    """
    if path.is_dir():
        found = [path / name for name in IN_FOLDERS if (path / name).is_file()]
        if not found:
            raise ValueError(f"no file of weights in {path}, such as {IN_FOLDERS[0]} or {IN_FOLDERS[3]}")
        return found[0]
    if not path.is_file():
        raise ValueError(f"no file {path}")
    return path


def read_content(file: Path) -> Content:
    """Return what a file holds; no code of the file is run.

    Raises:
        ValueError: with the reason in one line, if it is no file of weights or is damaged.
    """
    if file.name.endswith(".index.json"):
        return _read_shards(file)
    kind = kind_of(file)
    readers = {
        "torch": read_pickled,
        "torchscript": read_torchscript,
        "safetensors": _read_safetensors,
        "npz": _read_arrays,
    }
    return Content(readers[kind](file), kind, file)


def kind_of(file: Path) -> Kind:
    """Return the kind of a file from its first bytes, whatever its name.

    Raises:
        ValueError: with what it is instead, if it is no file of weights.
    """
    try:
        with file.open("rb") as opened:
            head = opened.read(_HEAD_BYTES)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if head.startswith(b"PK\x03\x04"):
        return _kind_of_zip(file)
    if head[8:9] == b"{" and 0 < int.from_bytes(head[:8], "little") < file.stat().st_size:
        return "safetensors"
    if _LEGACY_MAGIC in head[:32]:
        return "torch"
    raise ValueError(_what_else(head))


def _what_else(head: bytes) -> str:
    """Return what a file is that holds no weights, from its first bytes."""
    if not head:
        return "is empty: fetch it again"
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the weights: run `git lfs pull` in the repository that it came from"
    if re.match(rb"\s*<(!doctype|html|\?xml|head|body)", head, re.IGNORECASE):
        return "is a web page that was saved in place of the weights: fetch them again"
    if head.startswith(b"\x80"):
        return "is a pickle of Python objects: save the state dict alone, by torch.save, where it was written"
    start = head[:40].decode("ascii", "replace").split("\n")[0]
    return f"is no file of weights (it begins with {start!r}); {EXPECTED}"


def _kind_of_zip(file: Path) -> Kind:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        raise ValueError("is cut off (a zip archive without its end): fetch it again") from None
    if any(name.endswith("/constants.pkl") for name in names):
        return "torchscript"
    if any(name.endswith("/data.pkl") for name in names):
        return "torch"
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    raise ValueError(f"is a zip archive of {', '.join(names[:3]) or 'nothing'}; {EXPECTED}")


def _read_safetensors(file: Path) -> Any:
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"is damaged or cut off ({str(error).splitlines()[0]}): fetch it again") from None


def _read_arrays(file: Path) -> Any:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (OSError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"cannot be read as plain arrays: {(str(error).splitlines() or ['damaged'])[0]}") from None


def _read_shards(index: Path) -> Content:
    """Read weights that are spread over several files, as Hugging Face does with large ones."""
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError):
        raise ValueError("is no index of weights") from None
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise ValueError(f"names {len(names)} files, of which {missing[0]} is missing")
    parts = [read_content(index.parent / name) for name in names]
    return Content({name: value for part in parts for name, value in part.value.items()}, parts[0].kind, index)
