"""Samples of a 3D-aware generator: image k depends on the seed and on k alone."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from networks.cameras import PoseOptions, draw_cameras
from networks.gan.generators3d.interface import Generator3D
from networks.gan.generators3d.mesh import Mesh, extract_mesh
from networks.gan.latents import sample_latents
from networks.seeds import stream_seed

_BATCH = 16


class Samples3D:
    """The samples of a seed, by index: latents, cameras drawn as in training, images and surfaces.

    Images of equal index are equal up to rounding, whatever batch or process draws them.

    Args:
        generator: the generator, in eval mode.
        poses: see `PoseOptions`.
        size: side of the images.
        labels: cameras of the training images [m, 25], for poses of kind "labels".
        seed: seed of latents and cameras.
        device: where the generator is.
    """

    def __init__(
        self,
        generator: Generator3D,
        poses: PoseOptions,
        size: int,
        *,
        labels: Float[Tensor, "m 25"] | None,
        seed: int,
        device: torch.device,
    ) -> None:
        self.generator, self.poses, self.size = generator, poses, size
        self.labels, self.seed, self.device = labels, seed, device

    def latents(self, indices: Sequence[int]) -> Float[Tensor, "n z"]:
        """Return the latents of samples."""
        return sample_latents(stream_seed(self.seed), indices, self.generator.z_dim).to(self.device)

    def cameras(self, indices: Sequence[int]) -> Float[Tensor, "n 25"]:
        """Return the cameras of samples."""
        noise = torch.Generator().manual_seed(stream_seed(self.seed, 1))
        count = max(indices, default=-1) + 1
        drawn = [draw_cameras(1, self.poses, self.size, noise, self.labels) for _ in range(count)]
        return torch.cat([torch.empty(0, 25), *(drawn[k] for k in indices)]).to(self.device)

    def _batches(self, indices: Sequence[int], batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        latents, cameras = self.latents(indices), self.cameras(indices)
        for first in range(0, len(indices), batch):
            yield latents[first : first + batch], cameras[first : first + batch]

    def images(self, indices: Sequence[int], batch: int = _BATCH) -> Iterator[Float[Tensor, "b 3 h w"]]:
        """Yield the images of samples in -1..1, a batch at a time."""
        for z, camera in self._batches(indices, batch):
            yield self.generator(z, camera).image

    def meshes(self, indices: Sequence[int]) -> Iterator[Mesh]:
        """Yield the surfaces of samples.

        Raises:
            UserError: if one has none.
        """
        for z, camera in self._batches(indices, 1):
            yield extract_mesh(self.generator, z, camera)
