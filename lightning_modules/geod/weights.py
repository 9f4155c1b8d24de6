"""Trained weights by path: checkpoints of ours, and state dicts with the names of StyleGAN2 and EG3D."""

from torch import nn

from networks.weights.fitting import fit
from networks.weights.forms import read_weights

# Buffers of EG3D's modules that hold nothing learned: constants, and a number of its training loop.
_UNLEARNED = ("resample_filter", "dataset_label_std")


def load_network(network: nn.Module, path: str, key: str) -> None:
    """Load a generator's or discriminator's weights, all of them.

    Args:
        network: the network to fill.
        path: a state dict with our names, which are EG3D's for the tri-plane generator and StyleGAN2's for the
            discriminator, or a checkpoint of ours; of a generator and its average, the average is taken.
        key: the key of the config that names the file.

    Raises:
        UserError: if the file is missing or holds other weights.
    """
    fit(
        network,
        read_weights(path, key),
        f"{key}: {path} is of another network",
        is_unused=lambda name: name.split(".")[-1] in _UNLEARNED,
    )
