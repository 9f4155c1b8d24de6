"""Trained inverse renderers by path: checkpoints of ours, and those of Unsup3D."""

from common.errors import UserError
from lightning_modules.geod.inverse.renderer import InverseRenderer
from lightning_modules.geod.weights import load_all, read_weights, state_of_part

_NETWORKS = ("netD", "netA", "netL", "netV", "netC")


def load_inverse_renderer(renderer: InverseRenderer, path: str) -> None:
    """Load trained networks into an inverse renderer, all of them or none.

    Args:
        renderer: the inverse renderer to fill.
        path: a checkpoint of an experiment that trains one (`geod_ir`, or `geod` itself), or one of Unsup3D, which
            holds the state of netD, netA, netL, netV and netC.

    Raises:
        UserError: if the file is missing, holds no such networks, or networks of other sizes.
    """
    content = read_weights(path, "ir_init")
    if all(name in content for name in _NETWORKS):
        state = {f"{name}.{key}": value for name in _NETWORKS for key, value in content[name].items()}
    else:
        state = state_of_part("inverse_renderer", content)
    if not state:
        raise UserError(f"ir_init: {path} holds no inverse renderer; expected {', '.join(_NETWORKS)}, as Unsup3D saves")
    load_all(renderer, state, f"ir_init: {path} is not of this size (inverse_renderer.size, width, code)")
