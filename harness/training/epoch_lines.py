"""A line per epoch in place of a progress bar, for logs of batch jobs."""

import time

from pytorch_lightning import Callback, LightningModule, Trainer


class EpochLines(Callback):
    """Prints a line at the end of every epoch."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print epoch, losses and accuracies."""
        if trainer.is_global_zero:
            metrics = trainer.callback_metrics.items()
            known = {k: float(v) for k, v in metrics if not k.endswith(("_step", "_epoch")) and not k.startswith("lr-")}
            figures = "  ".join(f"{key} {value:.4g}" for key, value in known.items())
            clock = time.strftime("%T")
            print(f"{clock}  epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {figures}", flush=True)
