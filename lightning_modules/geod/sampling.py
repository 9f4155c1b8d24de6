"""Samples of a generator at random poses; all of them depend on a seed and their place alone."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_modules.geod.mesh import Mesh, extract_mesh
from lightning_modules.geod.poses import draw_cameras

if TYPE_CHECKING:
    from lightning_modules.geod.module import GeoD

_BATCH = 16


class Samples:
    """The first so many samples of a seed, by the moving average of the generator.

    Args:
        module: the module with its networks built.
        seed: the module's own unless told.
    """

    def __init__(self, module: "GeoD", seed: int | None = None) -> None:
        self.module, self.generator = module, module.average.module.eval()
        self._seed = (module.hparams.seed if seed is None else seed) * 1_000_003

    def latents(self, count: int) -> Float[Tensor, "n z"]:
        """Return latents, drawn one by one."""
        noise = torch.Generator().manual_seed(self._seed)
        drawn = [torch.randn(self.generator.z_dim, generator=noise) for _ in range(count)]
        return torch.stack(drawn).to(self.module.device)

    def cameras(self, count: int) -> Float[Tensor, "n 25"]:
        """Return cameras, drawn one by one as in training."""
        h, noise = self.module.hparams, torch.Generator().manual_seed(self._seed + 1)
        labels = self.module.label_cameras
        drawn = [draw_cameras(1, h.poses, h.image_size, noise, labels) for _ in range(count)]
        return torch.cat(drawn).to(self.module.device)

    def images(self, count: int) -> Iterator[Float[Tensor, "b 3 h w"]]:
        """Yield images in -1..1, a batch at a time."""
        for z, camera in zip(self.latents(count).split(_BATCH), self.cameras(count).split(_BATCH), strict=True):
            yield self.generator(z, camera).image

    def meshes(self, count: int) -> Iterator[Mesh]:
        """Yield the surfaces of the same samples."""
        for z, camera in zip(self.latents(count).split(1), self.cameras(count).split(1), strict=True):
            yield extract_mesh(self.generator, z, camera)
