"""The training loss of one level (§2.6), and the images that it is of."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from lightning_modules.dvdp.parameterization import DVDPPrediction, amplitudes, target
from lightning_modules.dvdp.process import Process
from lightning_modules.dvdp.sampler import Denoiser
from networks.distributed import own_positions, thinned
from networks.noise import BatchNoise


def positions_at(positions: range, level: int, scale: Sequence[int] | None) -> list[int]:
    """Return the positions in the global batch whose images are used at a level, evenly spread over it.

    Args:
        positions: of the images of one process, or of all.
        level: k.
        scale: how large the batch is at each level, relative to the others; None for the same.
    """
    return list(positions) if scale is None else thinned(positions, scale[level], max(scale))


def images_at(
    images: Float[Tensor, "b c h w"], level: int, scale: Sequence[int] | None
) -> tuple[Float[Tensor, "n c h w"], list[int]]:
    """Return this process's images that are used at a level, and their positions in the global batch."""
    own = own_positions(len(images))
    # A process without an image would have no gradient to share.
    used = positions_at(own, level, scale) or [own.start]
    return images[[position - own.start for position in used]], used


def denoising_loss(
    process: Process,
    network: Denoiser,
    kind: DVDPPrediction,
    clean: Float[Tensor, "b c h w"],
    level: int,
    sigma: Tensor | None,
    noise: BatchNoise,
) -> Float[Tensor, " b"]:
    """Return every sample's mean squared error of the prediction at random times of a level.

    Args:
        process: the process.
        network: the denoiser.
        kind: what it predicts.
        clean: images at that level.
        level: k.
        sigma: deviation of the images at that level, None to take them as they are.
        noise: draws times and noise.
    """
    time = process.draw_times(level, len(clean), noise)
    white = noise.normal("white", clean.shape, device=clean.device, dtype=clean.dtype)
    at = amplitudes(process, level, time, sigma, clean.device)
    state = process.diffuse(clean, level, time, white)
    output = network(at.input(state), level, time.to(clean.device))
    return (output.float() - target(kind, at, clean, white)).square().flatten(1).mean(1)
