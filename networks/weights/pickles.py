"""What `torch.save` and TorchScript wrote, read without running any code of the file.

The restricted unpickler of torch builds tensors and plain values; every class and function that a file names besides is
replaced by `Placeholder`, which keeps the state that it is given and does nothing.
"""

import io
import pickletools
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from common.errors import first_reason

# Old files of torch hold a number, a version, facts of the machine and the content, a pickle each.
LEGACY_PICKLES = 4


class Placeholder:
    """Stands for an object of a file that is neither tensor nor plain value."""

    state: Any = None

    def __new__(cls, *args: Any, **kwargs: Any) -> "Placeholder":  # noqa: ARG004
        """Build one, whatever the file passes to the class or function that it replaces."""
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        self.state = state


def read_pickled(path: Path) -> Any:
    """Return the content of a file of `torch.save`: plain values, tensors on the CPU, and placeholders.

    Raises:
        ValueError: with the reason in one line, if the file cannot be read so.
    """
    try:
        return _load(path, _names(path))
    except Exception as error:  # noqa: BLE001 - a broken file can raise any kind
        raise ValueError(f"cannot be read as tensors: {first_reason(error)}") from None


def read_torchscript(path: Path) -> Any:
    """Return the content of a TorchScript archive, its modules as placeholders.

    Raises:
        ValueError: with the reason in one line, if the file cannot be read so.
    """
    data = io.BytesIO()
    try:
        # Without its code and constants the archive has the layout of `torch.save`.
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(data, "w") as plain:
            names = set()
            for entry in archive.namelist():
                if entry.endswith(("/data.pkl", "/version", "/byteorder")) or "/data/" in entry:
                    plain.writestr(entry, archive.read(entry))
                if entry.endswith("/data.pkl"):
                    names = names_in_pickle(io.BytesIO(archive.read(entry)))
        data.seek(0)
        return _load(data, names)
    except Exception as error:  # noqa: BLE001 - a broken file can raise any kind
        raise ValueError(f"cannot be read as a TorchScript archive: {first_reason(error)}") from None


def _load(file: Path | IO[bytes], names: set[str]) -> Any:
    with torch.serialization.safe_globals([(Placeholder, name) for name in names]):
        return torch.load(file, map_location="cpu", weights_only=True)


def _names(path: Path) -> set[str]:
    """Return the names of all classes and functions in a file of `torch.save`."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            entry = next(entry for entry in archive.namelist() if entry.endswith("data.pkl"))
            with archive.open(entry) as file:
                return names_in_pickle(file)
    with path.open("rb") as file:
        return set().union(*(names_in_pickle(file) for _ in range(LEGACY_PICKLES)))


def names_in_pickle(file: IO[bytes]) -> set[str]:
    """Return the names of classes and functions in the next pickle of a file, as Python 3 has them."""
    pairs = [
        tuple(argument.split(" ", 1))
        for code, argument, _ in pickletools.genops(file)
        if argument and "GLOBAL" in code.name
    ]
    return {".".join(NAME_MAPPING.get((a, b), (IMPORT_MAPPING.get(a, a), b))) for a, b in pairs}


def tensors_of(value: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield all tensors below a mapping or a placeholder of a module, by their dotted names."""
    if isinstance(value, Tensor):
        yield prefix, value
        return
    if isinstance(value, Placeholder):
        value = _parts_of_module(value.state)
    if isinstance(value, dict):
        for name, part in value.items():
            if isinstance(name, str):
                yield from tensors_of(part, f"{prefix}.{name}" if prefix else name)


def _parts_of_module(state: Any) -> Any:
    """Return parameters, buffers and modules of a pickled `nn.Module`; the attributes of any other object."""
    if not isinstance(state, dict) or "_modules" not in state:
        return state
    buffers = {k: v for k, v in state["_buffers"].items() if k not in state.get("_non_persistent_buffers_set", ())}
    return {**state["_parameters"], **buffers, **state["_modules"]}
