"""The training loss of one level (§2.6)."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from lightning_modules.dvdp.parameterization import DVDPPrediction, amplitudes, target
from lightning_modules.dvdp.process import Process
from lightning_modules.dvdp.sampler import Denoiser


def denoising_loss(
    process: Process,
    network: Denoiser,
    kind: DVDPPrediction,
    clean: Float[Tensor, "b c h w"],
    level: int,
    sigma: Tensor | None,
) -> Float[Tensor, ""]:
    """Return the mean squared error of the prediction at random times of a level.

    Args:
        process: the process.
        network: the denoiser.
        kind: what it predicts.
        clean: images at that level.
        level: k.
        sigma: deviation of the images at that level, None to take them as they are.
    """
    time = process.draw_times(level, len(clean))
    noise = torch.randn_like(clean)
    at = amplitudes(process, level, time, sigma, clean.device)
    state = process.diffuse(clean, level, time, noise)
    output = network(at.input(state), level, time.to(clean.device))
    return functional.mse_loss(output.float(), target(kind, at, clean, noise))
