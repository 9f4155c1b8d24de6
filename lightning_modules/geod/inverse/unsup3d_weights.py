"""Trained inverse renderers by path: checkpoints of ours, and those of Unsup3D."""

from common.errors import UserError
from lightning_modules.geod.inverse.renderer import InverseRenderer
from networks.weights.fitting import fit
from networks.weights.forms import read_weights

_KEY = "model.ir_init"
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
    weights = read_weights(path, _KEY, "a checkpoint of geod_ir or of Unsup3D, or run:experiment=NAME")
    parts = {part for name in weights.tensors for part in name.split(".")}
    if not parts.issuperset(_NETWORKS):
        raise UserError(f"{_KEY}: {path} holds no inverse renderer; expected {', '.join(_NETWORKS)}, as Unsup3D saves")
    refusal = f"{_KEY}: {path} is not of this size (inverse_renderer.size, width, code)"
    fit(renderer, weights, refusal, only_parts=True)
