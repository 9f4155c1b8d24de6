"""The input of the generator in training: latents, poses and noise of this process's samples of one batch."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from lightning_modules.geod.networks import GeoDNetworks
from lightning_modules.geod.options import GeoDOptions
from networks.cameras import noise_cameras
from networks.distributed import gather_rows
from networks.gan.stylegan2.noise import draw_noise
from networks.noise import BatchNoise


class LatentBatch(NamedTuple):
    """Input of a generator: z [b, d], cameras [b, 25], other cameras [b, 25] of the same objects, and all else drawn.

    `noise` draws what a part needs under that part's name; `synthesis_noise` is that of the generator's convolutions.
    """

    z: Tensor
    camera: Tensor
    other: Tensor
    noise: BatchNoise

    def synthesis_noise(self, sides: list[int]) -> list[Tensor]:
        """Return noise for convolutions of these sides."""
        return draw_noise(sides, len(self.z), self.noise.part("synthesis"), self.z.device)


def draw_latents(
    networks: GeoDNetworks, options: GeoDOptions, count: int, purpose: str, labels: Float[Tensor, "n 25"] | None
) -> LatentBatch:
    """Return latents, poses and noise of this process's samples of one batch.

    Args:
        networks: the networks; their count of batches is the number of the batch.
        options: see `GeoD`.
        count: number of objects of this process.
        purpose: the network whose step it is.
        labels: cameras of this process's real images; poses of kind "labels" are drawn from those of all processes.
    """
    noise = BatchNoise(options["seed"], int(networks.batches_seen)).part(purpose)
    labels = labels if labels is None or options["poses"]["kind"] != "labels" else gather_rows(labels)
    z = noise.normal("latents", (count, networks.generator.z_dim))
    cameras = [
        noise_cameras(noise.part(name), count, options["poses"], options["image_size"], labels)
        for name in ("camera", "other_camera")
    ]
    z, camera, other = (part.to(networks.device) for part in (z, *cameras))
    return LatentBatch(z, camera, other, noise)
