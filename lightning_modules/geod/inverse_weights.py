"""Trained inverse renderers by path: our own checkpoints, and Unsup3D's as distributed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_modules.geod.inverse_renderer import GeoDError, InverseRenderer

_NETWORKS = ("netD", "netA", "netL", "netV", "netC")


def load_inverse_renderer(renderer: InverseRenderer, path: str) -> None:
    """Load trained networks into an inverse renderer, all of them or none.

    Args:
        renderer: where to.
        path: a checkpoint of an experiment that trains one (`geod_ir`, or `geod` itself), or one of Unsup3D, which
            holds the state of netD, netA, netL, netV and netC.

    Raises:
        GeoDError: if the file is not there, holds no such networks, or networks of other sizes.
    """
    if not Path(path).is_file():
        raise GeoDError(f"ir_init: no file {path}")
    content: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    state = _state(content)
    if not state:
        raise GeoDError(f"ir_init: {path} holds no inverse renderer; expected {', '.join(_NETWORKS)}, as Unsup3D saves")
    try:
        renderer.load_state_dict(state, strict=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise GeoDError(f"ir_init: {path} is not of this size (inverse_renderer.size, width, code): {reason}") from None


def _state(content: Mapping[str, Any]) -> dict[str, Tensor]:
    if all(name in content for name in _NETWORKS):
        return {f"{name}.{key}": value for name in _NETWORKS for key, value in content[name].items()}
    prefix = "inverse_renderer."
    own = content.get("state_dict", {})
    return {name.removeprefix(prefix): value for name, value in own.items() if name.startswith(prefix)}
