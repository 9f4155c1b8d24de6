"""A training step under the harness against the same module under a bare Lightning Trainer, in one process, in turn.

`python benchmarks/step_overhead.py [ROUNDS]` prints the medians of milliseconds a step, of processor time on one thread
(wall time on a shared machine says more of the machine), and the ratios round by round.
The bare Trainer has no logger, no checkpoints and no callbacks; the usual one has Lightning's CSV logger, a checkpoint
an epoch and the learning-rate monitor, as ours has.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import pytorch_lightning as pl  # noqa: E402
import torch  # noqa: E402
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint  # noqa: E402
from pytorch_lightning.loggers import CSVLogger  # noqa: E402

from harness.config.compose import plain  # noqa: E402
from harness.config.job import Job  # noqa: E402
from harness.config.load import load  # noqa: E402
from harness.run.build import build, build_data, build_module  # noqa: E402
from harness.run.quiet import be_quiet  # noqa: E402
from harness.training.epoch_lines import EpochLines  # noqa: E402

WORDS = ["experiment=uosr", "logger=local", "trainer.max_epochs=3", "trainer.limit_val_batches=0", "hardware=cpu"]
WORDS += ["callbacks.best.monitor=null"]


class Clock(pl.Callback):
    """Times the steps of a fit, less those of the first epoch's warm-up."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin."""
        self.began = time.process_time()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Take the time of all steps so far, but for what an epoch's end costs."""
        self.milliseconds = (time.process_time() - self.began) * 1e3 / (batch_idx + 1)


def fit(kind: str, config: dict[str, Any], data: Any) -> float:
    """Return milliseconds a step in the second epoch of a fresh training."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        if kind == "harness":
            built = build(Job(config, "uosr", WORDS), Path(folder), data)
            built.trainer.callbacks.append(clock)
            built.trainer.callbacks[:] = [c for c in built.trainer.callbacks if not isinstance(c, EpochLines)]
            built.trainer.fit(built.module, datamodule=built.data)
            return clock.milliseconds
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "use_distributed_sampler": False}
        settings: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "callbacks": [clock]}
        if kind == "usual":
            callbacks = [LearningRateMonitor("step"), ModelCheckpoint(f"{folder}/checkpoints"), clock]
            settings = {"logger": CSVLogger(folder), "callbacks": callbacks}
        trainer = pl.Trainer(**config["trainer"], accelerator="cpu", default_root_dir=folder, **quiet, **settings)
        trainer.fit(build_module(config), datamodule=data)
    return clock.milliseconds


def main(rounds: int = 9) -> None:
    """Fit with each in turn, round by round."""
    be_quiet()
    torch.set_num_threads(1)
    config = plain(load(WORDS))
    data = build_data(config)
    times: dict[str, list[float]] = {"bare": [], "usual": [], "harness": []}
    for _ in range(rounds):
        for kind, taken in times.items():
            taken.append(fit(kind, config, data))
    for kind, taken in list(times.items())[:2]:
        ratios = [ours / theirs for ours, theirs in zip(times["harness"], taken, strict=True)]
        print(
            f"harness {statistics.median(times['harness']):.2f}, {kind:8} {statistics.median(taken):7.2f} ms a step"
            f"   harness / {kind}: median {statistics.median(ratios):.3f}"
            f" ({min(ratios):.3f} to {max(ratios):.3f})"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
