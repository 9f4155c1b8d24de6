"""Trained weights by path: checkpoints of ours, and state dicts with the names of StyleGAN2 and EG3D."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import UserError

# Buffers of EG3D's modules that hold nothing learned: constants, and a number of its training loop.
_UNLEARNED = ("resample_filter", "dataset_label_std")


class _Unread:
    """Stands for an object in a file that is not used."""


def read_weights(path: str, key: str) -> Mapping[str, Any]:
    """Return what a file holds that `torch.save` wrote, on the CPU; no code of the file's is run.

    Args:
        path: the file.
        key: the key of the config that names it.

    Raises:
        UserError: if the file is missing or of another kind.
    """
    if not Path(path).is_file():
        raise UserError(f"{key}: no file {path}")
    try:
        # Unsup3D keeps its curves as an object next to the weights.
        with torch.serialization.safe_globals([(_Unread, "unsup3d.meters.MetricsTrace")]):
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # noqa: BLE001 - a file of another kind can raise any kind
        content = None
    if not isinstance(content, Mapping):
        raise UserError(f"{key}: {path} is no file of weights; expected a state dict or a checkpoint of ours")
    return content


def state_of_part(part: str, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the state of one part of a module from a checkpoint of ours; empty if it has no such part."""
    state = content.get("state_dict", {})
    return {name.removeprefix(f"{part}."): value for name, value in state.items() if name.startswith(f"{part}.")}


def load_network(network: nn.Module, path: str, key: str, part: str) -> None:
    """Load a generator's or discriminator's weights, all of them.

    Args:
        network: the network to fill.
        path: a state dict with our names, which are EG3D's for the tri-plane generator and StyleGAN2's for the
            discriminator, or a checkpoint of ours.
        key: the key of the config that names the file.
        part: name of the network in our checkpoints.

    Raises:
        UserError: if the file is missing or holds other weights.
    """
    content, known = read_weights(path, key), network.state_dict()
    state = state_of_part(part, content) or {
        name: value for name, value in content.items() if name in known or name.split(".")[-1] not in _UNLEARNED
    }
    load_all(network, state, f"{key}: {path} is of another network")


def load_all(network: nn.Module, state: Mapping[str, Any], refusal: str) -> None:
    """Load a state dict whole, or raise a UserError that begins with `refusal`."""
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise UserError(f"{refusal}: {str(error).splitlines()[1].strip()}") from None
