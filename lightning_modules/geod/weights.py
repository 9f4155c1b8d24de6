"""Trained weights by path: our own checkpoints, and state dicts of Unsup3D and EG3D."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import UserError
from lightning_modules.geod.inverse_renderer import InverseRenderer

_READERS = ("netD", "netA", "netL", "netV", "netC")
# Buffers of EG3D's modules that nothing learned is in: constants, and a figure of its training loop.
_UNLEARNED = ("resample_filter", "dataset_label_std")


class _Unread:
    """Stands for an object in a file of which nothing is used."""


def read_weights(path: str, key: str) -> Mapping[str, Any]:
    """Return what a file holds that `torch.save` wrote, on the CPU; no code of the file's is run.

    Args:
        path: the file.
        key: the key of the config that names it.

    Raises:
        UserError: if the file is not there or is another kind of file.
    """
    if not Path(path).is_file():
        raise UserError(f"{key}: no file {path}")
    try:
        # Unsup3D keeps its curves as an object beside the weights.
        with torch.serialization.safe_globals([(_Unread, "unsup3d.meters.MetricsTrace")]):
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # noqa: BLE001 - a file of another kind can raise any kind
        content = None
    if not isinstance(content, Mapping):
        raise UserError(f"{key}: {path} is no file of weights; expected a state dict or a checkpoint of ours")
    return content


def kept_as(place: str, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the state of one part of a module from a checkpoint of ours; empty if it has no such part."""
    own = content.get("state_dict", {})
    return {name.removeprefix(f"{place}."): value for name, value in own.items() if name.startswith(f"{place}.")}


def load_player(player: nn.Module, path: str, key: str, place: str) -> None:
    """Load a generator's or discriminator's weights, all of them.

    Args:
        player: where to.
        path: a state dict with our names, which are EG3D's for the tri-plane generator and StyleGAN2's for the
            discriminator, or a checkpoint of ours.
        key: the key of the config that names the file.
        place: what the player is called in our checkpoints.

    Raises:
        UserError: if the file is not there or holds other weights.
    """
    content, known = read_weights(path, key), player.state_dict()
    state = kept_as(place, content) or {
        name: value for name, value in content.items() if name in known or name.split(".")[-1] not in _UNLEARNED
    }
    load_all(player, state, f"{key}: {path} is of another network")


def load_inverse_renderer(renderer: InverseRenderer, path: str) -> None:
    """Load trained networks into an inverse renderer, all of them or none.

    Args:
        renderer: where to.
        path: a checkpoint of an experiment that trains one (`geod_ir`, or `geod` itself), or one of Unsup3D, which
            holds the state of netD, netA, netL, netV and netC.

    Raises:
        UserError: if the file is not there, holds no such networks, or networks of other sizes.
    """
    content = read_weights(path, "ir_init")
    if all(name in content for name in _READERS):
        state = {f"{name}.{key}": value for name in _READERS for key, value in content[name].items()}
    else:
        state = kept_as("inverse_renderer", content)
    if not state:
        raise UserError(f"ir_init: {path} holds no inverse renderer; expected {', '.join(_READERS)}, as Unsup3D saves")
    load_all(renderer, state, f"ir_init: {path} is not of this size (inverse_renderer.size, width, code)")


def load_all(network: nn.Module, state: Mapping[str, Any], refusal: str) -> None:
    """Load a state dict whole, or raise a UserError that begins with `refusal`."""
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise UserError(f"{refusal}: {str(error).splitlines()[1].strip()}") from None
