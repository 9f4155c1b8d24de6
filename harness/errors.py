"""Bad input and how it is told: one clear line each, exit code 2, no traceback."""

import difflib
import sys
from collections.abc import Iterable


class BadInputError(Exception):
    """Something the user can put right; `lines` say what, where, and what would be right."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = list(lines)

    def __reduce__(self) -> tuple[type["BadInputError"], tuple[str, ...]]:
        return (type(self), tuple(self.lines))


class PreemptedError(Exception):
    """The process was asked to stop; in training, raised between two batches, after the resume point was saved."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ' - did you mean X?', or the known words when none is near."""
    words = sorted(known)
    close = difflib.get_close_matches(word, words, n=3, cutoff=0.6)
    if close:
        return f" - did you mean {' or '.join(close)}?"
    return f" - known: {', '.join(words)}" if words else ""


def tell(lines: Iterable[str]) -> int:
    """Print the lines as errors and return exit code 2."""
    for line in lines:
        print(f"error: {' '.join(line.split()) if chr(10) not in line else line}", file=sys.stderr)
    return 2


def disk_trouble(error: OSError, place: object) -> BadInputError:
    """Return the plain line for a folder that cannot be written."""
    return BadInputError(f"{place}: cannot write there ({error.strerror or error}): free space or choose runs=FOLDER")
