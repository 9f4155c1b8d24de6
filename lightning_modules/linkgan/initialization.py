"""Where a linking starts: networks, averages and optimizers of an earlier training (§2.6)."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch.optim import Optimizer

from common.errors import UserError
from lightning_modules.linkgan.networks import LinkGANNetworks
from networks.gan.stylegan2.pretrained import load_stylegan2
from networks.weights.forms import read_weights

KEY = "model.init_from"
# A training counts its own images and batches.
_COUNTERS = ("images_seen", "batches_seen")


def load_networks(networks: LinkGANNetworks, path: str) -> list[dict[str, Any]]:
    """Load all networks of an earlier training: generator, discriminator, moving averages.

    Args:
        networks: the networks to fill.
        path: its checkpoint, or a file of stylegan2-ada-pytorch's or Hammer's networks, see `load_stylegan2`.

    Returns:
        The states of its optimizers, generator's first; none if the file has none.

    Raises:
        UserError: if the file is missing or holds other networks.
    """
    generator, average = networks.get_submodule("generator"), networks.average.module
    if load_stylegan2(path, KEY, generator=generator, average=average, discriminator=networks.discriminator):
        return []
    weights = read_weights(path, KEY)
    tensors = {name: value for name, value in weights.tensors.items() if name not in _COUNTERS}
    local = {name: value for name, value in networks.state_dict().items() if name not in _COUNTERS}
    for name, value in local.items():
        if name not in tensors:
            raise UserError(
                f"{KEY}: {path} has no '{name}'; expected a checkpoint of LinkGAN, or G_ema, G and D of StyleGAN2"
            )
        if tensors[name].shape != value.shape:
            given, wanted = list(tensors[name].shape), list(value.shape)
            raise UserError(
                f"{KEY}: {path} is of another network: '{name}' is {given}, should be {wanted}; model.stylegan2,"
                " model.discriminator and data.image_size are to be those of that run"
            )
    unknown = sorted(tensors.keys() - local.keys())
    if unknown:
        raise UserError(f"{KEY}: {path} has '{unknown[0]}', which these networks have not")
    networks.load_state_dict(dict(tensors), strict=False)
    return list(weights.content.get("optimizer_states", []))


def load_optimizers(optimizers: Sequence[Optimizer], states: Sequence[Mapping[str, Any]]) -> None:
    """Continue optimizers from the moments of an earlier training; learning rates and betas stay those of this one.

    Args:
        optimizers: the optimizers, generator's first.
        states: from `load_networks`.

    Raises:
        UserError: if there are no states of as many optimizers.
    """
    if len(states) != len(optimizers):
        raise UserError(
            f"{KEY} has the states of {len(states)} optimizers, {len(optimizers)} are to be continued:"
            " set model.continue_optimizers=false to start them afresh"
        )
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict(optimizer.state_dict() | {"state": state["state"]})
