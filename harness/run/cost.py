"""What a run would cost, before any queue: parameters, FLOPs and memory of one step, by tensors without data."""

import logging
import warnings
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from harness.config.identity import identity
from harness.config.job import Job
from harness.training.interfaces import ExperimentData, ExperimentModule


class _Saved:
    """Counts the bytes that autograd keeps for the backward pass, each storage once."""

    def __init__(self, held: set[int]) -> None:
        self.seen, self.bytes = held, 0
        self._alive: list[torch.Tensor] = []

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        """Count a tensor."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self.seen:  # noqa: SLF001 - the storage's own identity
            self.seen.add(storage._cdata)  # noqa: SLF001
            self.bytes += storage.nbytes()
            self._alive.append(tensor)
        return tensor


def measure(module: ExperimentModule, data: ExperimentData, batch_size: int) -> dict[str, Any]:
    """Return parameters (all, trained, the tuner's), FLOPs of a step and memory in bytes of one process.

    Args:
        module: a paper's module, its networks not built yet.
        data: the DataModule whose `fake_batch` gives the shapes.
        batch_size: samples of one process's batch.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        module.configure_model()
        module.attach_tuner()
        module.train()
        batch = data.fake_batch(batch_size)
        weights = list(module.parameters())
        saved = _Saved({t.untyped_storage()._cdata for t in [*weights, *module.buffers()]})  # noqa: SLF001
        counter = FlopCounterMode(display=False)
        with counter, torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
            module.cost_step(batch)
        trained = [p for p in weights if p.requires_grad]
    size = sum(p.numel() * p.element_size() for p in weights)
    trained_size = sum(p.numel() * p.element_size() for p in trained)
    return {
        "parameters": sum(p.numel() for p in weights),
        "trainable": sum(p.numel() for p in trained),
        "tuner": module.tuner.num_trainable() if module.tuner is not None else None,
        "flops": counter.get_total_flops(),
        "weights": size,
        "gradients": trained_size,
        "optimizer": trained_size * module.optimizer_states,
        "activations": saved.bytes,
    }


def show_cost(job: Job, module: ExperimentModule, data: ExperimentData) -> None:
    """Print what one step of one process costs."""
    from harness.core.screen import show_table

    batch = job.config["data"]["batch_size"] // job.processes
    found = measure(module, data, batch)
    mib = 2**20
    memory = {name: found[name] / mib for name in ("weights", "gradients", "optimizer", "activations")}
    step = f"forward and backward, batch {batch} of each of {job.processes} process(es)"
    rows = [
        ["parameters", f"{found['parameters']:,}"],
        ["trained parameters", f"{found['trainable']:,}"],
        *([] if found["tuner"] is None else [["of them the tuner's, without head", f"{found['tuner']:,}"]]),
        [
            f"GFLOPs a step ({step})",
            f"{found['flops'] / 1e9:,.2f}",
        ],
        *[[f"MiB of {name}", f"{value:,.1f}"] for name, value in memory.items()],
        ["MiB in all, by estimate, float32", f"{sum(memory.values()):,.1f}"],
    ]
    show_table(f"{job.experiment} {identity(job.config)[:8]}: cost", ["", "value"], rows)
