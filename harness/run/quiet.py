"""A clean run prints nothing but its own lines: known chatter of the libraries is turned off, the rest stays."""

import logging
import os
import warnings

_CHATTER = (
    ".*does not have many workers.*",
    ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*The number of training batches.*is smaller than the logging interval.*",
    ".*You're resuming from a checkpoint that ended before the epoch ended.*",
    ".*It is recommended to use `self.log.*sync_dist=True.*",
    ".*using a tensor core.*",
    ".*Experiment logs directory.*exists and is not empty.*",
    ".*Detected call of `lr_scheduler.step\\(\\)` before `optimizer.step\\(\\)`.*",
    ".*Starting from v1.9.0, `tensorboardX` has been removed.*",
    ".*module\\(s\\) in eval mode at the start of training.*",  # the backbone under a tuner is meant to be
    ".*No device id is provided via `init_process_group`.*",
    ".*The `srun` command is available on your system but is not used.*",
)


def be_quiet() -> None:
    """Silence what the libraries say on every run."""
    import pytorch_lightning  # noqa: F401 - it sets levels of its own when first imported

    for text in _CHATTER:
        warnings.filterwarnings("ignore", message=text)
    os.environ.setdefault("PYTHONWARNINGS", "ignore")  # loader workers and other ranks
    for name in ("pytorch_lightning", "lightning_fabric", "torch.distributed", "timm"):
        logging.getLogger(name).setLevel(logging.ERROR)
