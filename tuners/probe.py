"""One forward pass that shows the shapes and layouts of operations."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

Layout = Literal["BNC", "NCHW", "NHWC", "NBC"]


class Seen(NamedTuple):
    """What one call of an operation showed.

    Attributes:
        source: shape of its first input.
        result: shape of its output, the item of a tuple that the network goes on with.
        out_index: which item that is, None if it returns a tensor.
    """

    source: tuple[int, ...]
    result: tuple[int, ...]
    out_index: int | None


def watch(
    backbone: nn.Module, modules: Sequence[nn.Module], example: Sequence[Any], keywords: Mapping[str, Any]
) -> dict[nn.Module, Seen]:
    """Run the backbone once, without gradient and in eval mode, and return what was seen, in order of completion.

    Modules that are not called, or take or return no tensor, are left out.
    """
    seen: dict[nn.Module, Seen] = {}

    def note(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        source = next((v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)), None)
        if source is None or module in seen:
            return
        if isinstance(output, Tensor):
            seen[module] = Seen(tuple(source.shape), tuple(output.shape), None)
        elif isinstance(output, tuple | list):
            index = _main_item(source, output)
            if index is not None:
                seen[module] = Seen(tuple(source.shape), tuple(output[index].shape), index)

    handles = [module.register_forward_hook(note, with_kwargs=True) for module in modules]
    try:
        with torch.no_grad(), in_eval(backbone):
            backbone(*example, **keywords)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _main_item(source: Tensor, items: Sequence[Any]) -> int | None:
    """Return the item of the input's shape, else the first tensor: the stream that the network goes on with."""
    tensors = [index for index, item in enumerate(items) if isinstance(item, Tensor)]
    return next((i for i in tensors if items[i].shape == source.shape), tensors[0] if tensors else None)


@contextmanager
def in_eval(backbone: nn.Module) -> Iterator[None]:
    """Within the context, hold a network in eval mode; afterwards every part has the mode that it had."""
    modes = [(module, module.training) for module in backbone.modules()]
    backbone.eval()
    try:
        yield
    finally:
        for module, was_training in modes:
            module.training = was_training


def layout_of(shape: tuple[int, ...], module: nn.Module, batch: int | None) -> Layout | None:
    """Return where the channels are in what an operation takes or gives, None if it cannot be told.

    Args:
        shape: of the tensor.
        module: the operation, whose own layers tell how many channels they expect.
        batch: how many samples the network was given.
    """
    axis = _channel_axis(shape, module) if len(shape) > 2 else None
    if len(shape) == 4 and axis is not None:
        return "NCHW" if axis == 1 else "NHWC"
    if len(shape) != 3 or (axis == 1 and shape[1] != shape[2]):
        return None
    told = [part.batch_first for part in module.modules() if isinstance(part, nn.MultiheadAttention)]
    is_batch_second = not all(told) if told else shape[1] == batch != shape[0]
    return "NBC" if is_batch_second else "BNC"


def _channel_axis(shape: tuple[int, ...], module: nn.Module) -> int | None:
    """Return the axis, second or last, whose size the first layer inside that fits one of them expects."""
    last = len(shape) - 1
    for layer in module.modules():
        channels = _expected_channels(layer)
        fitting = [axis for axis in (1, last) if shape[axis] == channels]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            # timm's LayerNorm2d is a LayerNorm on maps.
            is_map_layer = type(layer).__name__.endswith("2d") or isinstance(layer, nn.GroupNorm)
            return 1 if is_map_layer else last
    return None


def _expected_channels(layer: nn.Module) -> int | None:
    for attribute in ("in_channels", "in_features", "num_features", "num_channels"):
        if isinstance(channels := getattr(layer, attribute, None), int):
            return channels
    return int(layer.normalized_shape[-1]) if isinstance(layer, nn.LayerNorm) else None
