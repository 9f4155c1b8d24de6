"""Hooks whose callables are modules: children of the tuner, copied with it, removed with it."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from tuners.sites import Site


class SiteHook(nn.Module):
    """Base of what is hooked to a site; while `is_on` is false it changes nothing."""

    is_on = True

    def hook_output(self, module: nn.Module) -> None:
        """Run `on_output` after every forward pass of a module."""
        module.register_forward_hook(self, with_kwargs=True)

    def hook_input(self, module: nn.Module) -> None:
        """Run `on_input` before every forward pass of a module."""
        module.register_forward_pre_hook(self, with_kwargs=True)

    def forward(self, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], *output: Any) -> Any:
        """Do what the hook does; torch calls this with the output (forward hook) or without (pre-hook)."""
        if not self.is_on:
            return None
        return self.on_output(module, args, kwargs, output[0]) if output else self.on_input(module, args, kwargs)

    def on_output(self, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> Any:
        """Return the new output, None to leave it."""
        raise NotImplementedError

    def on_input(self, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Return new (args, kwargs), None to leave them."""
        raise NotImplementedError


def first_input(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    """Return the first tensor that a module was called with."""
    return next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))


def with_first_input(
    args: Sequence[Any], kwargs: Mapping[str, Any], value: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return (args, kwargs) with the first tensor replaced."""
    for index, old in enumerate(args):
        if isinstance(old, Tensor):
            return (*args[:index], value, *args[index + 1 :]), dict(kwargs)
    key = next(key for key, old in kwargs.items() if isinstance(old, Tensor))
    return tuple(args), {**kwargs, key: value}


def main_output(output: Any, site: Site) -> Tensor:
    """Return the tensor of a site's output that the network goes on with."""
    return output if site.out_index is None else output[site.out_index]


def with_main_output(output: Any, site: Site, value: Tensor) -> Any:
    """Return a site's output with that tensor replaced."""
    if site.out_index is None:
        return value
    return type(output)((*output[: site.out_index], value, *output[site.out_index + 1 :]))
