"""The training loss of one level (spec, section 2.4)."""

from jaxtyping import Float
from torch import Tensor

from lightning_modules.dvdp.parameterization import DVDPPrediction, amplitudes, target
from lightning_modules.dvdp.process import Process
from lightning_modules.dvdp.sampler import Denoiser
from networks.noise import BatchNoise


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
