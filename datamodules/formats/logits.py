"""Files of cached logits: arrays `logits` [n, k], `labels` [n] and, if there are any, `features` [n, d].

Four forms are read: a folder with logits.npy, labels.npy and features.npy; NAME.npy with NAME_labels.npy and
NAME_features.npy beside it; .npz; .safetensors. All but .npz stay on disk until rows are asked for. Pickled objects are
never loaded.
"""

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

Arrays = dict[str, NDArray[Any]]
NAMES = ("logits", "labels", "features")
FORMS = "a folder of logits.npy and labels.npy, NAME.npy beside NAME_labels.npy, .npz, or .safetensors"
_KINDS = ("F16", "F32", "F64", "I64", "I32", "I16", "U8")


def read_logits(path: Path) -> Arrays:
    """Return the arrays of a file or folder, checked against one another.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: in one line, if it is of no known form, broken, or its arrays do not fit.
    """
    if not path.exists():
        raise FileNotFoundError(f"no {path}; expected there: {FORMS}")
    try:
        arrays = _read(path)
    except FileNotFoundError:
        raise
    except (OSError, BadZipFile, EOFError, KeyError, SafetensorError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ValueError(f"{path} cannot be read as plain arrays ({reason}); expected there: {FORMS}") from None
    _check(path, arrays)
    return arrays


def _read(path: Path) -> Arrays:
    if path.is_dir():
        return _mapped({name: path / f"{name}.npy" for name in NAMES})
    if path.suffix == ".npy":
        beside = {name: path.with_name(f"{path.stem}_{name}.npy") for name in NAMES}
        return _mapped(beside | {"logits": path})
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in NAMES if name in file.files}
    if path.suffix == ".safetensors":
        return _safetensors(path)
    raise ValueError(f"of no known form '{path.suffix}'")


def _mapped(files: dict[str, Path]) -> Arrays:
    missing = [file for name, file in files.items() if name != "features" and not file.is_file()]
    if missing:
        raise FileNotFoundError(f"no {missing[0]}; expected there: {FORMS}")
    return {name: np.load(file, mmap_mode="r", allow_pickle=False) for name, file in files.items() if file.is_file()}


def _safetensors(path: Path) -> Arrays:
    arrays: Arrays = {}
    # As torch tensors, which are views of the mapped file: safetensors' numpy arrays are copies.
    with safe_open(path, framework="pt") as file:
        for name in (name for name in NAMES if name in file.keys()):  # noqa: SIM118 - no mapping
            if (kind := file.get_slice(name).get_dtype()) not in _KINDS:
                raise ValueError(f"{name} is of type {kind}, should be one of {', '.join(_KINDS)}")
            arrays[name] = file.get_tensor(name).numpy()
            arrays[name].flags.writeable = False
    return arrays


def _check(path: Path, arrays: Arrays) -> None:
    missing = [name for name in ("logits", "labels") if name not in arrays]
    if missing:
        there = ", ".join(sorted(arrays)) or "neither logits nor labels"
        raise ValueError(f"{path}: no {', '.join(missing)} in this file (it holds {there})")
    for name, array in arrays.items():
        axes, kinds = (1, "iu") if name == "labels" else (2, "f")
        if array.ndim != axes or array.dtype.kind not in kinds or not array.size:
            told = "whole numbers [n]" if name == "labels" else f"floating-point numbers [n, {name[0]}]"
            raise ValueError(f"{path}: {name} is {array.dtype} {list(array.shape)}, should be {told}")
        if len(array) != len(arrays["logits"]):
            raise ValueError(f"{path}: {len(arrays['logits'])} rows of logits, but {len(array)} of {name}")
    low, high, classes = int(arrays["labels"].min()), int(arrays["labels"].max()), arrays["logits"].shape[1]
    if low < 0 or high >= classes:
        raise ValueError(f"{path}: labels run from {low} to {high}, but there are {classes} logits")
