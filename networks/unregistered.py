"""Modules that a module uses without owning them, such as frozen evaluators."""

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module | None)


class Unregistered(Generic[M]):
    """Builds a module on first use and keeps it outside of its owner: it is in no checkpoint and never trained with it.

    Args:
        build: returns the module, or None where there is none.
    """

    def __init__(self, build: Callable[[], M]) -> None:
        self._build, self._built = build, list[M]()

    def on(self, device: torch.device) -> M:
        """Return the module on a device."""
        if not self._built:
            self._built.append(self._build())
        module = self._built[0]
        if module is not None:
            module.to(device)
        return module
