"""Trained weights by path: our own checkpoints, and state dicts of Unsup3D and EG3D."""

from torch import nn

from common.errors import UserError
from lightning_modules.geod.inverse_renderer import InverseRenderer
from networks.weights.fitting import fit
from networks.weights.forms import read_weights

_READERS = ("netD", "netA", "netL", "netV", "netC")
# Buffers of EG3D's modules that nothing learned is in: constants, and a figure of its training loop.
_UNLEARNED = ("resample_filter", "dataset_label_std")


def load_player(player: nn.Module, path: str, key: str) -> None:
    """Load a generator's or discriminator's weights, all of them.

    Args:
        player: where to.
        path: a state dict with our names, which are EG3D's for the tri-plane generator and StyleGAN2's for the
            discriminator, or a checkpoint of ours; of a generator and its average, the average is taken.
        key: the key of the config that names the file.

    Raises:
        UserError: if the file is not there or holds other weights.
    """
    weights = read_weights(path, key)
    fit(
        player,
        weights,
        f"{key}: {path} is of another network",
        is_unused=lambda name: name.split(".")[-1] in _UNLEARNED,
    )


def load_inverse_renderer(renderer: InverseRenderer, path: str) -> None:
    """Load trained networks into an inverse renderer, all of them or none.

    Args:
        renderer: where to.
        path: a checkpoint of an experiment that trains one (`geod_ir`, or `geod` itself), or one of Unsup3D, which
            holds the state of netD, netA, netL, netV and netC.

    Raises:
        UserError: if the file is not there, holds no such networks, or networks of other sizes.
    """
    weights = read_weights(path, "ir_init")
    parts = {part for name in weights.tensors for part in name.split(".")}
    if not parts.issuperset(_READERS):
        raise UserError(f"ir_init: {path} holds no inverse renderer; expected {', '.join(_READERS)}, as Unsup3D saves")
    fit(
        renderer,
        weights,
        f"ir_init: {path} is not of this size (inverse_renderer.size, width, code)",
        only_parts=True,
    )
