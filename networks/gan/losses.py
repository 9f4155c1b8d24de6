"""The losses of a GAN: non-saturating, with R1, and a penalty on uneven density for 3D-aware generators."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from networks.gan.generators3d.interface import Generator3D
from networks.gan.stylegan2.noise import draw_noise
from networks.noise import BatchNoise
from networks.precision import single_precision

_DENSITY_POINTS = 1000


def generator_loss(generated: Float[Tensor, " b"]) -> Float[Tensor, ""]:
    """Return the non-saturating loss softplus(-D(G)) of a generator (Goodfellow et al. 2014), by D's logits."""
    return functional.softplus(-generated).mean()


def discriminator_loss(real: Float[Tensor, " b"], generated: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Return softplus(D(G)) + softplus(-D(real)) by D's logits, each averaged over its own images."""
    return functional.softplus(generated).mean() + functional.softplus(-real).mean()


def r1_penalty(logits: Float[Tensor, " b"], images: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
    """Return the mean squared gradient norm of the logits of real images, in single precision (Mescheder et al. 2018).

    Args:
        logits: the discriminator's logits of `images`.
        images: its input, which must require gradients.
    """
    (gradient,) = torch.autograd.grad(logits.float().sum(), images, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3)).mean()


def density_variation(
    generator: Generator3D, z: Float[Tensor, "b z"], camera: Tensor, noise: BatchNoise
) -> Float[Tensor, ""]:
    """Return how much density differs between random points and points next to them (EG3D, Chan et al. 2022).

    Args:
        generator: the generator.
        z: latents.
        camera: cameras [b, 25], for generators that see them.
        noise: draws the points and the generator's noise.
    """
    field = generator.field(z, camera, draw_noise(generator.noise_sides, len(z), noise, z.device))
    side = generator.box_warp
    # In a cube of twice the side, as EG3D's are: only an eighth of them lie where the planes are.
    shape = (len(z), _DENSITY_POINTS, 3)
    first = (noise.uniform("points", shape, device=z.device) * 2 - 1) * side
    second = first + noise.normal("steps", shape, device=z.device) * (0.004 * side)
    with single_precision(z):
        density = generator.query(field, torch.cat([first, second], dim=1))[0]
    one, other = density.chunk(2, dim=1)
    return (one - other).abs().mean()
