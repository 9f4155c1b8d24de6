"""The noise predictor: a U-Net that runs at every level, or one for each level."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from common.errors import UserError
from networks.diffusion.unet import UNet, UNetOptions, check_unet


class LevelNetworkOptions(UNetOptions):
    """The U-Net; `weight_sharing` is "shared" (one U-Net, run at the size of every level) or "per_level"."""

    weight_sharing: Literal["shared", "per_level"]


class LevelNetworks(nn.Module):
    """The networks of all levels.

    Args:
        image_channels: channels of the images.
        image_size: side of the images at level 0.
        levels: number of levels, K + 1.
        options: see `LevelNetworkOptions`.

    Raises:
        UserError: if the sizes of some level cannot be halved often enough.
    """

    def __init__(self, image_channels: int, image_size: int, levels: int, options: LevelNetworkOptions) -> None:
        super().__init__()
        check_network(image_size, levels, options)
        sizes = [image_size >> level for level in range(levels)]
        served = [sizes] if options["weight_sharing"] == "shared" else [[size] for size in sizes]
        self.networks = nn.ModuleList(UNet(image_channels, of_one, options) for of_one in served)

    def of(self, level: int) -> nn.Module:
        """Return the network that serves a level."""
        return self.networks[level if len(self.networks) > 1 else 0]

    def forward(self, x: Float[Tensor, "b c h w"], level: int, time: Tensor) -> Float[Tensor, "b c h w"]:
        """Return the prediction for inputs of a level at times [b]."""
        return self.of(level)(x, time)

    def compile_each(self) -> None:
        """Let torch.compile make one graph for every size; the keys of checkpoints stay as they are."""
        # A graph for every size, in training and without gradients.
        torch._dynamo.config.cache_size_limit = 32  # noqa: SLF001 - it has no public name
        for network in self.networks:
            network.compile(dynamic=False)


def uneven_use(levels: int, options: LevelNetworkOptions) -> bool:
    """Return whether a step at one level can leave weights unused that others use."""
    return levels > 1 and (options["weight_sharing"] == "per_level" or bool(options["attention"]))


def check_network(image_size: int, levels: int, options: LevelNetworkOptions) -> None:
    """Raise UserError, in one line, for options or sizes that make no network."""
    check_unet(options)
    stages = len(options["channels"])
    factor = options["patch_size"] * 2 ** (levels - 1) * 2 ** (stages - 1)
    if image_size % factor:
        raise UserError(
            f"images of side {image_size} cannot be halved {levels - 1} times by the turning points, cut into"
            f" {options['patch_size']} x {options['patch_size']} by the stem and halved {stages - 1} times by the"
            f" U-Net's stages: the side has to be a multiple of {factor}"
        )
