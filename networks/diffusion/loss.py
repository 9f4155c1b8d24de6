"""The training loss: the squared error of a prediction at random timesteps, weighted by them."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from networks.diffusion.conditions import Predict
from networks.diffusion.parameterization import Prediction
from networks.diffusion.schedule import Schedule

Weighting = Literal["uniform", "min_snr"]

MAX_SNR = 5.0
"""The gamma of min-SNR (Hang et al. 2023)."""


def timestep_weights(
    weighting: Weighting, prediction: Prediction, snr: Float[Tensor, " b"], max_snr: float = MAX_SNR
) -> Float[Tensor, " b"]:
    """Return the weight of the squared error of each timestep.

    Args:
        weighting: "uniform", or "min_snr" (Hang et al. 2023): min(SNR, max_snr) on the error of x_0, whatever is
            predicted.
        prediction: what the network predicts.
        snr: signal-to-noise ratio of the timesteps.
        max_snr: gamma.
    """
    if weighting == "uniform":
        return torch.ones_like(snr)
    # The error of x_0 is that of eps divided by the SNR, and that of v divided by the SNR + 1.
    ratio = {"x0": torch.ones_like(snr), "eps": snr, "v": snr + 1}[prediction]
    return snr.clamp(max=max_snr) / ratio


def denoising_loss(
    predict: Predict,
    schedule: Schedule,
    prediction: Prediction,
    clean: Float[Tensor, "b c h w"],
    timesteps: Int[Tensor, " b"],
    noise: Float[Tensor, "b c h w"],
    weighting: Weighting = "uniform",
) -> Float[Tensor, " b"]:
    """Return the loss of every sample, a mean over its elements in float32.

    Args:
        predict: the network under its conditions.
        schedule: the schedule.
        prediction: what the network predicts.
        clean: x_0.
        timesteps: timesteps, best on the CPU.
        noise: eps.
        weighting: see `timestep_weights`.
    """
    levels = schedule.levels(timesteps, clean.device)
    output = predict(levels.diffuse(clean, noise), timesteps.to(clean.device))
    errors = functional.mse_loss(output.float(), levels.target(prediction, clean, noise).float(), reduction="none")
    weights = timestep_weights(weighting, prediction, schedule.snr(timesteps))
    return weights.to(clean.device) * errors.flatten(1).mean(1)
