"""Outputs of a test split, gathered from all processes in the order of the data set, each sample once."""

import numpy as np
import torch
from torch import Tensor

from networks.distributed import gather_objects, gather_to_first


class Collector:
    """Columns of a test split, batch by batch; `index` says which sample a row is of."""

    def __init__(self) -> None:
        self.batches: list[dict[str, Tensor]] = []

    def add(self, **columns: Tensor) -> None:
        """Keep the rows of a batch, on the CPU."""
        self.batches.append({name: column.detach().cpu() for name, column in columns.items()})

    def gather(self) -> dict[str, Tensor] | None:
        """Return the columns of all processes in index order on the first process, None on the others.

        A sample that several processes saw (samplers pad so that all have equally many) is kept once.
        """
        return _joined(gather_to_first(self._mine()))

    def gather_everywhere(self) -> dict[str, Tensor]:
        """Return the same on every process.

        Raises:
            ValueError: if no process has a row.
        """
        found = _joined(gather_objects(self._mine()))
        if found is None:
            raise ValueError("nothing was collected")
        return found

    def _mine(self) -> dict[str, Tensor]:
        names = self.batches[0] if self.batches else {}
        return {name: torch.cat([batch[name] for batch in self.batches]) for name in names}


def _joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor] | None:
    parts = [part for part in parts if part]
    if not parts:
        return None
    columns = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    _, rows = np.unique(columns["index"].numpy(), return_index=True)
    return {name: column[torch.from_numpy(rows)] for name, column in columns.items()}
