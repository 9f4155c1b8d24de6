"""A bar on screen for long work inside a hook; where there is no screen, nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import rich
from rich.progress import Progress


@contextmanager
def progress(words: str, total: int) -> Iterator[Callable[[], None]]:
    """Give a function to be called after each of `total` pieces of work."""
    console = rich.get_console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(words, total=total)
        yield lambda: bars.advance(task)
