"""Logs the learning rate of every parameter group under the group's name."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytorch_lightning as pl
from torch.optim import Optimizer


class LearningRates(pl.Callback):
    """Logs `lr/NAME` for each parameter group, as it is in the step that is about to be made.

    A group without a name, which no module of this project has, is called after its optimizer's class and its number.
    """

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Log the learning rates when other metrics of the step are logged."""
        if not trainer._logger_connector.should_update_logs:  # noqa: SLF001 - as Lightning's LearningRateMonitor
            return
        rates = learning_rates(trainer.optimizers)
        for logger in trainer.loggers if rates else ():
            logger.log_metrics(rates, step=trainer.fit_loop.epoch_loop._batches_that_stepped)  # noqa: SLF001


def learning_rates(optimizers: Iterable[Optimizer]) -> dict[str, float]:
    """Return the learning rate of every parameter group by its name in the log.

    Raises:
        ValueError: if two groups have one name.
    """
    found = [
        (str(group.get("name", f"{type(optimizer).__name__}_{number}")), float(group["lr"]))
        for optimizer in optimizers
        for number, group in enumerate(optimizer.param_groups)
    ]
    if repeated := [name for name, count in Counter(name for name, _ in found).items() if count > 1]:
        raise ValueError(f"two parameter groups are called {repeated[0]}: give each a name of its own")
    return {f"lr/{name}": rate for name, rate in found}
