"""The surface of a generated scene as a mesh: marching cubes on its density."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from common.errors import UserError
from networks.gan.generators3d.interface import Generator3D


class Mesh(NamedTuple):
    """Vertices float32 [n, 3] in the world's units, triangles int32 [m, 3], colors uint8 [n, 3]."""

    vertices: NDArray[np.float32]
    triangles: NDArray[np.int32]
    colors: NDArray[np.uint8]


@torch.no_grad()
def extract_mesh(
    generator: Generator3D, z: Tensor, camera: Tensor, *, resolution: int = 96, level: float | None = None
) -> Mesh:
    """Return the surface at which density passes a level.

    Args:
        generator: the generator, in eval mode.
        z: one latent [1, d].
        camera: one camera [1, 25], for generators that see it.
        resolution: points along each side of the cube that the scene fills.
        level: density, after its activation; unless given a fifth of the way up to the largest one, and at most 10,
            which is where EG3D's scenes are cut.

    Raises:
        UserError: if density passes the level nowhere.
    """
    from skimage.measure import marching_cubes

    field = generator.field(z, camera, "const")
    half = generator.box_warp / 2
    line = torch.linspace(-half, half, resolution, device=z.device)
    points = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), dim=-1).reshape(1, -1, 3)
    raw = torch.cat([generator.query(field, part)[0][0] for part in points.split(2**18, dim=1)])
    density = functional.softplus(raw - 1).reshape(resolution, resolution, resolution).cpu().numpy()
    low, high = float(density.min()), float(density.max())
    level = min(10.0, low + (high - low) / 5) if level is None else level
    if not low < level < high:
        raise UserError(f"no surface: density is {low:.2g} to {high:.2g} and never passes {level:.2g}")
    vertices, triangles, _, _ = marching_cubes(density, level)
    vertices = (vertices * (2 * half / (resolution - 1)) - half).astype(np.float32)
    positions = torch.from_numpy(vertices).to(z.device)[None]
    colors = torch.cat([generator.query(field, part)[1][0, :3].T for part in positions.split(2**18, dim=1)])
    return Mesh(vertices, triangles.astype(np.int32), (colors.clamp(0, 1) * 255).byte().cpu().numpy())
