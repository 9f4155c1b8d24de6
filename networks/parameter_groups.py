"""Names of an optimizer's parameter groups, by which their learning rates are logged (`lr/NAME`)."""

from collections.abc import Iterable
from typing import TypeVar

from torch import nn
from torch.optim import Optimizer

_Optimizer = TypeVar("_Optimizer", bound=Optimizer)


def named_group(parameters: Iterable[nn.Parameter], name: str) -> list[dict[str, object]]:
    """Return a single parameter group with a name."""
    return [{"params": list(parameters), "name": name}]


def with_kept_names(optimizer: _Optimizer) -> _Optimizer:
    """Return an optimizer whose groups keep their names when a state is loaded that has none.

    Args:
        optimizer: its groups all have a `name`.
    """
    names = [group["name"] for group in optimizer.param_groups]

    def name_groups(loaded: Optimizer) -> None:
        for group, name in zip(loaded.param_groups, names, strict=True):
            group["name"] = name

    optimizer.register_load_state_dict_post_hook(name_groups)
    return optimizer
