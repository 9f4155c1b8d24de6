"""Which of the processes that train together this one is."""

import os

from harness.core import slurm


def rank() -> int:
    """Return the index of this process among those that train together."""
    if slurm.tasks() > 1:
        return int(os.environ["SLURM_PROCID"])
    return next((int(os.environ[key]) for key in ("RANK", "LOCAL_RANK") if key in os.environ), 0)


def launched_outside() -> bool:
    """Return whether torchrun or SLURM has started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ or slurm.tasks() > 1
