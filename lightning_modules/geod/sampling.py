"""What is generated: the latents and poses of a training batch, and samples that depend on seed and index alone."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_modules.geod.mesh import Mesh, extract_mesh
from lightning_modules.geod.networks import GeoDNetworks
from lightning_modules.geod.options import GeoDOptions
from lightning_modules.geod.poses import draw_cameras

_BATCH = 16


class LatentBatch(NamedTuple):
    """Input of a generator: z [b, d], cameras [b, 25], and other cameras [b, 25] of the same objects."""

    z: Tensor
    camera: Tensor
    other: Tensor


def draw_latents(
    networks: GeoDNetworks,
    options: GeoDOptions,
    count: int,
    purpose: int,
    labels: Float[Tensor, "n 25"] | None,
    *,
    rank: int,
    world_size: int,
) -> LatentBatch:
    """Return this process's share of the latents and poses that all processes draw for one batch.

    Args:
        networks: the networks; their count of batches is part of the seed.
        options: see `GeoD`.
        count: number of objects of this process.
        purpose: 0 for the generator's step, 1 for the discriminator's.
        labels: cameras of the real images, for poses of kind "labels".
        rank: number of this process.
        world_size: number of processes.
    """
    noise = torch.Generator().manual_seed((options["seed"] * 1_000_003 + int(networks.batches_seen)) * 2 + purpose)
    z = torch.randn(count * world_size, networks.generator.z_dim, generator=noise)
    cameras = draw_cameras(2 * count * world_size, options["poses"], options["image_size"], noise, labels)
    own = slice(rank * count, (rank + 1) * count)
    both = cameras.unflatten(0, (2, count * world_size))[:, own]
    return LatentBatch(*(part.to(networks.device) for part in (z[own], *both)))


class Samples:
    """The first so many samples of a seed, by the moving average of the generator.

    Args:
        networks: the networks.
        options: see `GeoD`.
        seed: that of the options unless given.
    """

    def __init__(self, networks: GeoDNetworks, options: GeoDOptions, seed: int | None = None) -> None:
        self.generator, self.device = networks.averaged_generator, networks.device
        self.options, self.labels = options, networks.label_cameras
        self._seed = (options["seed"] if seed is None else seed) * 1_000_003

    def latents(self, count: int) -> Float[Tensor, "n z"]:
        """Return latents, drawn one by one."""
        noise = torch.Generator().manual_seed(self._seed)
        drawn = [torch.randn(self.generator.z_dim, generator=noise) for _ in range(count)]
        return torch.stack(drawn).to(self.device)

    def cameras(self, count: int) -> Float[Tensor, "n 25"]:
        """Return cameras, drawn one by one as in training."""
        poses, size, noise = self.options["poses"], self.options["image_size"], torch.Generator()
        noise.manual_seed(self._seed + 1)
        drawn = [draw_cameras(1, poses, size, noise, self.labels) for _ in range(count)]
        return torch.cat(drawn).to(self.device)

    def images(self, count: int) -> Iterator[Float[Tensor, "b 3 h w"]]:
        """Yield images in -1..1, a batch at a time."""
        for z, camera in zip(self.latents(count).split(_BATCH), self.cameras(count).split(_BATCH), strict=True):
            yield self.generator(z, camera).image

    def meshes(self, count: int) -> Iterator[Mesh]:
        """Yield the surfaces of the same samples."""
        for z, camera in zip(self.latents(count).split(1), self.cameras(count).split(1), strict=True):
            yield extract_mesh(self.generator, z, camera)
