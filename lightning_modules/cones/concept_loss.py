"""The concept-implanting loss: the subject's pictures, and pictures of its class that keep the prior (cones §2.2)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_modules.cones.base_model import TextToImage, forward_noise
from networks.diffusion.conditions import Conditions, DiffusionNetwork
from networks.diffusion.loss import denoising_loss
from networks.noise import BatchNoise


def half_loss(
    model: TextToImage,
    network: DiffusionNetwork,
    conditions: Conditions,
    latents: Float[Tensor, "b c h w"],
    timesteps: Tensor,
    noise: Tensor,
) -> Float[Tensor, ""]:
    """Return the mean denoising loss of latents under the conditions of one prompt, whatever their number.

    Args:
        model: the text-to-image model.
        network: its U-Net, masked or not.
        conditions: of one prompt, a batch of one.
        latents: clean latents.
        timesteps: of every sample.
        noise: of every sample.
    """
    repeated = repeat(conditions, len(latents))
    losses = denoising_loss(
        lambda x, t: network(x, t, repeated), model.schedule, model.prediction, latents, timesteps, noise
    )
    return losses.mean()


def drawn_loss(
    model: TextToImage, network: DiffusionNetwork, conditions: Conditions, latents: Tensor, noise: BatchNoise
) -> Float[Tensor, ""]:
    """Return the loss at timesteps drawn uniformly, see `half_loss`."""
    timesteps = noise.integers("timesteps", 0, model.schedule.timesteps, (len(latents),))
    eps = noise.normal("noise", latents.shape, device=latents.device, dtype=latents.dtype)
    return half_loss(model, network, conditions, latents, timesteps, eps)


def repeat(conditions: Conditions, count: int) -> Conditions:
    """Return the conditions of a batch of one for a batch of `count`."""
    parts = (conditions.tokens, conditions.token_mask, conditions.vector, conditions.local)
    return Conditions(*(None if part is None else part.expand(count, *part.shape[1:]) for part in parts))


def concept_loss(
    model: TextToImage,
    network: DiffusionNetwork,
    prompts: tuple[Conditions, Conditions],
    subject: Float[Tensor, "b c h w"],
    prior: Float[Tensor, "n c h w"],
    prior_weight: float,
    noise: BatchNoise,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the loss, the subject's half and the prior's half: each a mean over its own samples, then added.

    Args:
        model: the text-to-image model.
        network: its U-Net, masked or not.
        prompts: conditions of the subject's and of the class's prompt.
        subject: latents of pictures of the subject.
        prior: latents of pictures of its class.
        prior_weight: lambda; at 0 the prior's half is not computed.
        noise: draws timesteps and noise of either half.
    """
    own = drawn_loss(model, network, prompts[0], subject, noise.part("subject"))
    kept = drawn_loss(model, network, prompts[1], prior, noise.part("prior")) if prior_weight else own.new_zeros(())
    return own + prior_weight * kept, own.detach(), kept.detach()


@torch.no_grad()
def fixed_loss(
    model: TextToImage, conditions: Conditions, latents: Float[Tensor, "b c h w"], *, repeats: int, seed: int
) -> float:
    """Return the mean loss over fixed noise and evenly spread timesteps, the same in every arm."""
    clean = latents.repeat(repeats, 1, 1, 1)
    noise, timesteps = forward_noise(model, clean, seed)
    return float(half_loss(model, model.network, conditions, clean, timesteps, noise))


def encoded(model: TextToImage, images: Sequence[Tensor] | Tensor) -> Tensor:
    """Return the latents of images, computed without gradients."""
    with torch.no_grad():
        return model.encode(images if isinstance(images, Tensor) else torch.cat(list(images)))
