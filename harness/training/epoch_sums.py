"""The running sums behind an epoch's mean figures, which Lightning leaves out of its checkpoints."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.connectors.logger_connector.result import _ResultMetric


def _metrics(trainer: pl.Trainer) -> dict[str, _ResultMetric]:
    """Return what `self.log` has gathered in this training epoch, tensors only."""
    found = trainer.fit_loop.epoch_loop._results.items()  # noqa: SLF001
    return {key: m for key, m in found if isinstance(m, _ResultMetric) and m.is_tensor and m.meta.on_epoch}


def epoch_sums(trainer: pl.Trainer) -> dict[str, list[torch.Tensor]]:
    """Return value and count of every figure, over all ranks where the figure is one over all ranks.

    Call on all ranks.
    """
    sums = {}
    for key, metric in _metrics(trainer).items():
        if metric.has_reset or not metric.update_called:
            continue
        parts = [metric.value, getattr(metric, "cumulated_batch_size", torch.tensor(0))]
        if metric.meta.sync.should:
            how = metric.meta.reduce_fx.__name__ if not metric.meta.is_mean_reduction else "sum"
            parts = [trainer.strategy.reduce(part.clone(), reduce_op=how) for part in parts]
        sums[key] = [part.detach().cpu().clone() for part in parts]
    return sums


def add_epoch_sums(trainer: pl.Trainer, sums: dict[str, Any]) -> dict[str, Any]:
    """Add saved sums to the figures logged since; return those whose figure has not been logged yet.

    One rank takes the sums, so that the sum over all ranks is right on any number of them.
    """
    left = dict(sums)
    for key, metric in _metrics(trainer).items():
        if key not in left:
            continue
        value, count = left.pop(key)
        if not trainer.is_global_zero:
            continue
        value = value.to(metric.value.device)
        if metric.meta.is_max_reduction or metric.meta.is_min_reduction:
            metric.value = metric.meta.reduce_fx(metric.value, value)
        else:
            metric.value = metric.value + value
        if metric.meta.is_mean_reduction:
            metric.cumulated_batch_size = metric.cumulated_batch_size + count.to(metric.cumulated_batch_size.device)
    return left
