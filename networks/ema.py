"""Moving averages of the weights, with which images are drawn."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """Return a moving average of a network's weights, kept in checkpoints as a module.

    After n updates the decay is (1 + n) / (10 + n), never above `decay`, so that the first weights are soon forgotten.
    """
    average = AveragedModel(network, multi_avg_fn=_blend(decay))
    return average.requires_grad_(False)


def _blend(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    @torch.no_grad()
    def blend(averages: Tensors, current: Tensors, updates: Tensor | int) -> None:
        kept = min(decay, (1 + float(updates)) / (10 + float(updates)))
        torch._foreach_lerp_(averages, current, 1 - kept)

    return blend


class HalfLifeAverage(nn.Module):
    """An average in which weights count half as much after every `half_life` images: decay 0.5 ** (images / half_life).

    StyleGAN2's (Karras et al. 2020) half-life is 10,000 images. Other than `AveragedModel`'s, the first update does not
    replace what the average starts from, so a training can continue from an averaged generator. Buffers are copied.

    Args:
        network: what is averaged; the average starts as a copy of it, `module`, in eval mode and without gradients.
        half_life: images after which weights count half as much, above 0.
        ramp: if given, the half-life is at most this many times the images seen so far, so that first weights are soon
            forgotten (0.05 in stylegan2-ada-pytorch).
    """

    images_seen: Tensor

    def __init__(self, network: nn.Module, half_life: float, *, ramp: float | None = None) -> None:
        super().__init__()
        self.half_life, self.ramp = half_life, ramp
        self.module = copy.deepcopy(network).eval().requires_grad_(False)
        self.register_buffer("images_seen", torch.zeros((), dtype=torch.int64))

    def decay(self, images: int) -> float:
        """Return what the average keeps of itself over an update after `images` images."""
        half_life = self.half_life
        if self.ramp is not None:
            half_life = min(half_life, self.ramp * int(self.images_seen))
        return 0.5 ** (images / half_life) if half_life > 0 else 0.0

    @torch.no_grad()
    def update(self, network: nn.Module, images: int) -> None:
        """Update the average with the weights of a network that has seen `images` more images, over all processes."""
        decay = self.decay(images)
        self.images_seen += images
        for average, weight in zip(self.module.parameters(), network.parameters(), strict=True):
            average.lerp_(weight, 1 - decay)
        for copied, buffer in zip(self.module.buffers(), network.buffers(), strict=True):
            copied.copy_(buffer)

    def train(self, mode: bool = True) -> "HalfLifeAverage":
        """Stay in eval mode: an average draws images and is never trained."""
        return super().train(False)
