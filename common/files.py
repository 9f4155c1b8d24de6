"""Files that a reader sees complete or not at all."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary file next to `path` to write to; it takes the path's place once it is complete and on disk.

    A reader sees the old file or the new one, and an error leaves the old one.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, default=str))


def read_json(path: Path) -> Any:
    """Return a JSON file's value, None if the file is missing or broken."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
