"""Single precision where a mixed one would lose the result."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def single_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """Return a context on the tensor's device in which nothing is cast down; inputs are cast up by whoever enters."""
    # Where costs are counted tensors are on the meta device, which knows no autocast.
    return nullcontext() if tensor.is_meta else torch.autocast(tensor.device.type, enabled=False)
