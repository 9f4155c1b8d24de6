"""The input of the generator in training: latents and poses of one batch, shared out over the processes."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_modules.geod.networks import GeoDNetworks
from lightning_modules.geod.options import GeoDOptions
from networks.cameras import draw_cameras
from networks.distributed import rank_part
from networks.gan.latents import batch_generator


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
    """Return this process's part of the latents and poses that all processes draw for one batch.

    Args:
        networks: the networks; their count of batches is part of the seed.
        options: see `GeoD`.
        count: number of objects of this process.
        purpose: 0 for the generator's step, 1 for the discriminator's.
        labels: cameras of the real images, for poses of kind "labels".
        rank: number of this process.
        world_size: number of processes.
    """
    noise = batch_generator(options["seed"], int(networks.batches_seen), purpose)
    z = torch.randn(count * world_size, networks.generator.z_dim, generator=noise)
    cameras = draw_cameras(2 * count * world_size, options["poses"], options["image_size"], noise, labels)
    own = rank_part(count, rank)
    both = cameras.unflatten(0, (2, count * world_size))[:, own]
    return LatentBatch(*(part.to(networks.device) for part in (z[own], *both)))
