"""What files hold, by names, sizes and sampled contents: enough to tell two data sets apart, without torch.

Neither the place nor the times of files count, so the same data staged elsewhere have the same fingerprint.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.hashing import digest

# Files of a folder whose contents are sampled, and blocks read of each file.
MAX_SAMPLED_FILES, MAX_BLOCKS, BLOCK_BYTES = 64, 8, 2**14
# What programs leave next to data: LMDB's lock changes whenever the database is opened.
_NOT_DATA = {"__MACOSX", "__pycache__", "Thumbs.db", "desktop.ini", "lock.mdb"}
_known: dict[Path, str | None] = {}


def forget() -> None:
    """Drop what this process knows of files, so that the next run looks again; within a run they are read once."""
    _known.clear()


def fingerprint(path: Path) -> str | None:
    """Return 16 hexadecimal digits for a file or a folder with all below it, None if nothing exists there.

    Args:
        path: a file of any format, or a folder; links are followed, hidden files left out.

    Raises:
        UserError: if something below the path cannot be read.
    """
    path = path.absolute()
    if path not in _known:
        try:
            _known[path] = _read(path)
        except OSError as error:
            raise UserError(f"{error.filename or path}: cannot be read ({error.strerror})") from None
    return _known[path]


def _read(path: Path) -> str | None:
    if path.is_file():
        return digest(_content(path, path.stat().st_size))
    if not path.is_dir():
        return None
    files = sorted(_files(str(path), "", set()))
    step = max(1, len(files) // MAX_SAMPLED_FILES)
    sampled = [_content(path / name, size) for name, size in files[::step]]
    return digest(b"\0".join([repr(files).encode(), *sampled]))


def _files(folder: str, prefix: str, above: set[tuple[int, int]]) -> Iterator[tuple[str, int]]:
    """Yield name below the data's folder, and bytes, of every file."""
    status = os.stat(folder)  # noqa: PTH116 - paths of 70,000 pictures would cost more than their sizes
    inode = (status.st_dev, status.st_ino)
    if inode in above:
        # A link to a folder that holds it.
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _NOT_DATA:
                continue
            if entry.is_dir():
                yield from _files(entry.path, f"{prefix}{entry.name}/", above | {inode})
            elif entry.is_file():
                yield prefix + entry.name, entry.stat().st_size


def _content(path: Path, size: int) -> bytes:
    """Return a hash of a file's size and of blocks spread evenly from its first byte to its last."""
    content = hashlib.sha256(str(size).encode())
    last = max(0, size - BLOCK_BYTES)
    count = min(MAX_BLOCKS, -(-size // BLOCK_BYTES))
    with path.open("rb") as file:
        for number in range(count):
            file.seek(last * number // max(1, count - 1))
            content.update(file.read(BLOCK_BYTES))
    return content.digest()


def declared(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a data config declares of its keys that are paths (`_paths_` in the data YAML).

    `{root: open}`: it may hold any data, so its contents are part of what a run is. `{root: closed}`: it holds a
    published set, and `{root: [train, val]}` that these files or folders of it are one. Without any word, a `root` is
    open.
    """
    return data.get("_paths_") or ({"root": "open"} if "root" in data else {})


def _paths(value: Any) -> Iterator[Path]:
    if isinstance(value, str) and value:
        yield Path(value)
    elif isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _paths(item)


def open_data(data: Mapping[str, Any]) -> dict[str, list[str | None]]:
    """Return the fingerprints of a data config's open paths by key, without keys of which nothing exists."""
    keys = [key for key, kind in declared(data).items() if kind == "open"]
    contents = {key: [fingerprint(path) for path in _paths(data.get(key))] for key in keys}
    return {key: values for key, values in contents.items() if any(values)}


def compared_files(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the fingerprints that are compared before a run is reused or resumed, by key: closed data and weights."""
    given: dict[str, Path] = {}
    for key, kind in declared(config["data"]).items():
        for path in _paths(config["data"].get(key)) if kind != "open" else ():
            names = [""] if kind == "closed" else list(kind)
            given |= {"/".join([f"data.{key}", *([name] if name else [])]): path / name for name in names}
    given |= dict(_weights(config["model"], "model"))
    if isinstance(config["ckpt"], str):
        given["ckpt"] = Path(config["ckpt"])
    return {key: content for key, path in given.items() if (content := fingerprint(path)) is not None}


def _weights(node: Any, key: str) -> Iterator[tuple[str, Path]]:
    """Yield the values of a model config that name an existing file or folder."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _weights(value, f"{key}.{name}")
    elif isinstance(node, str) and (os.sep in node or "." in node) and os.path.exists(node):  # noqa: PTH110
        # Unlike Path.exists, it answers for texts that no file could have as a name, too.
        yield key, Path(node)
