"""Path length regularization: a step in w changes images by the same length everywhere (Karras et al. 2020)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from networks.distributed import global_mean, global_mean_with_gradient, own_positions, thinned
from networks.noise import BatchNoise
from networks.precision import single_precision


def shrunk_batch(count: int, shrink: int) -> list[int]:
    """Return which of a process's samples are regularized: one in `shrink` of the global batch (StyleGAN2 takes 2)."""
    own = own_positions(count)
    return [position - own.start for position in thinned(own, 1, shrink)]


class PathLengthPenalty(nn.Module):
    """Mean of (|J_w^T y| - a)^2, where a is the running mean of |J_w^T y| (Karras et al. 2020, section 3.2).

    y is noise of the images' shape with deviation 1 / sqrt(pixels). The running mean is one over the global batch, part
    of the state, and is updated whenever the penalty is computed; as in stylegan2-ada-pytorch, gradients flow through
    the newest lengths' part of it too. It is a lazy regularization: its weight is `lazy_weight(2, 4)` in StyleGAN2.

    Args:
        decay: weight of the newest mean in the running one.
    """

    mean_length: Tensor

    def __init__(self, decay: float = 0.01) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("mean_length", torch.zeros(()))

    def forward(
        self,
        images: Float[Tensor, "b c h w"],
        ws: Float[Tensor, "b n w"],
        directions: Float[Tensor, "b c h w"],
    ) -> Float[Tensor, ""]:
        """Return the penalty, in single precision, and update the running mean.

        Args:
            images: what `ws` give; made under `single_precision`, or its gradients lose theirs.
            ws: the latents of all layers, of which images are a differentiable function.
            directions: y times sqrt(pixels), see `draw_directions`.
        """
        with single_precision(images):
            lengths = path_lengths(images.float(), ws, directions)
            mean = self.mean_length.lerp(global_mean_with_gradient(lengths), self.decay)
            self.mean_length.copy_(mean.detach())
            return global_mean((lengths - mean).square())


def draw_directions(images: Float[Tensor, "b c h w"], noise: BatchNoise) -> Float[Tensor, "b c h w"]:
    """Return y times sqrt(pixels) for every image, noise of deviation one, from the batch's noise."""
    return noise.normal("directions", images.shape, device=images.device, dtype=images.dtype)


def path_lengths(
    images: Float[Tensor, "b c h w"], ws: Float[Tensor, "b n w"], directions: Float[Tensor, "b c h w"]
) -> Float[Tensor, " b"]:
    """Return |J_w^T y| of every sample, the root mean square over layers; it can be differentiated.

    Args:
        images: images.
        ws: the latents that they were made from.
        directions: y times the root of the number of pixels.
    """
    pixels = images.shape[-1] * images.shape[-2]
    projected = (images * directions).sum() / math.sqrt(pixels)
    (gradient,) = torch.autograd.grad(projected, ws, create_graph=True)
    return gradient.float().square().sum(dim=2).mean(dim=1).sqrt()
