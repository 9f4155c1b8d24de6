"""One GPU for each of the runs that a machine makes side by side."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.locks import try_lock

_given: list[str] = []


def visible() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


@contextmanager
def one(folder: Path, accelerator: str) -> Iterator[None]:
    """Let this process see one GPU, which no other process of a sweep has meanwhile.

    A process that has begun to use CUDA cannot change its GPU, so it waits for its first one before its later runs.

    Args:
        folder: the sweep's folder, where the GPUs that are taken are noted.
        accelerator: `hardware.accelerator`; nothing is taken for "cpu", nor where there is no choice.
    """
    names = _given or ([] if accelerator == "cpu" else visible())
    if accelerator == "cpu" or (len(names) < 2 and not _given):
        yield
        return
    while True:
        for name in names:
            lock = try_lock(folder / f".gpu-{name.replace(os.sep, '-')}")
            if lock is None:
                continue
            _given[:] = [name]
            os.environ["CUDA_VISIBLE_DEVICES"] = name
            try:
                yield
            finally:
                lock.release()
            return
        time.sleep(0.5)
