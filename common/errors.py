"""Errors that the user can fix: reported in one line each, with exit code 2 and no traceback."""

import difflib
import re
import sys
from collections.abc import Iterable

# Lines of torch's that are no reason, and ask for `weights_only=False`.
_ADVICE = r"Weights only load failed|\(\d\) |Check the documentation|.*weights_only"


class UserError(ValueError):
    """Something that the user can fix; `lines` say what is wrong, where, and what would be right."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = list(lines)

    def __reduce__(self) -> tuple[type["UserError"], tuple[str, ...]]:
        return (type(self), tuple(self.lines))


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ' - did you mean X?', or the known names when none is close."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return f" - did you mean {' or '.join(close)}?"
    return f" - known: {', '.join(names)}" if names else ""


def first_reason(error: Exception, limit: int = 200) -> str:
    """Return the first sentence of what a library says, without torch's advice to read files less safely."""
    lines = [line.strip().removeprefix("WeightsUnpickler error: ") for line in str(error).splitlines()]
    lines = [line for line in lines if line and not re.match(_ADVICE, line)] or [type(error).__name__]
    sentence = re.split(r"\. (?=[A-Z])", lines[0])[0].rstrip(".")
    return sentence[:limit]


def print_errors(lines: Iterable[str]) -> int:
    """Print the lines as errors and return exit code 2."""
    for line in lines:
        print(f"error: {' '.join(line.split()) if chr(10) not in line else line}", file=sys.stderr)
    return 2


def disk_error(error: OSError, path: object) -> UserError:
    """Return the error for a path that cannot be written."""
    return UserError(f"{path}: cannot write there ({error.strerror or error}): free space or choose runs=FOLDER")
