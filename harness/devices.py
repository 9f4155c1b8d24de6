"""One GPU for each of the runs that a machine makes side by side."""

import fcntl
import os
import time
from pathlib import Path
from typing import IO

_held: IO[str] | None = None


def visible() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def take_one(folder: Path) -> str | None:
    """Let this process see one GPU that no other process of a sweep has, until it ends.

    A process that has begun to use CUDA cannot change its GPU, so it keeps the first one for all its runs.

    Args:
        folder: the sweep's folder, where the GPUs that are taken are noted.

    Returns:
        The GPU's name, None if there is no choice.
    """
    global _held  # noqa: PLW0603 - what a process holds for its life
    names = visible()
    if _held is not None or len(names) < 2:
        return None
    while True:
        for name in names:
            file = (folder / f".gpu-{name}").open("w")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                continue
            _held = file
            os.environ["CUDA_VISIBLE_DEVICES"] = name
            return name
        time.sleep(0.5)
