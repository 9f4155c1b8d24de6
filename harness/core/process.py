"""The process itself: how its threads compute and wait, when it collects garbage, how it ends."""

import atexit
import gc
import os
import sys
import threading
from typing import NoReturn

# Each library reads its own variable when it is loaded; Numba's threads split no sum, so they may be all cores.
_COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class PreemptedError(Exception):
    """The process was asked to stop; in training, raised between two batches, after the resume point was saved."""


def prepare() -> None:
    """Set what has to be set before torch is imported: idle threads sleep, and importing collects no garbage.

    OpenMP's threads otherwise spin while they wait, which takes the cores from runs that share the machine. A quarter
    of the time of importing torch and Lightning would go into garbage collection that finds nothing.
    """
    gc.disable()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def set_threads(count: int) -> None:
    """Let this process, and those that it starts, compute on `count` threads, whatever the machine or its load.

    Sums are split over threads, so results are equal to the bit only for equal counts.
    """
    os.environ.update(dict.fromkeys(_COUNTS, str(count)))
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(count)


def collect_garbage() -> None:
    """Collect garbage from now on, but not among what importing and building have left."""
    gc.freeze()
    gc.enable()


def leave(code: int) -> NoReturn:
    """End the process as the interpreter would, without taking its modules and objects apart, which takes a second."""
    threading._shutdown()  # type: ignore[attr-defined] # noqa: SLF001 - waits for threads that are not daemons
    atexit._run_exitfuncs()  # noqa: SLF001 - W&B, loggers and process pools end here
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            # Whoever read the output has gone.
            code = code or 1
    os._exit(code)
