"""ODIN: temperature and a small step that makes the network surer, before the softmax score (code: bit_pytorch)."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_modules.uosr.scores.softmax_scores import msp


def odin_score(
    network: Callable[[Tensor], Tensor],
    images: Float[Tensor, "n c h w"],
    temperature: float = 1000.0,
    epsilon: float = 0.001,
) -> Float[Tensor, " n"]:
    """Return 1 - max softmax(f(x') / T) with x' = x - eps * sign(grad_x CE(f(x) / T, argmax f)), float64.

    Samples must not influence each other (batch norm in eval mode): the caller sees to it. No parameter collects any
    gradient.

    Args:
        network: images to logits, [n, k].
        images: normalised images; the step is taken on these.
        temperature: T.
        epsilon: eps, in units of the normalised input.
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        # A clone, because tensors made in inference mode take no gradient.
        inputs = images.detach().clone().requires_grad_()
        logits = network(inputs).double() / temperature
        loss = torch.nn.functional.cross_entropy(logits, logits.argmax(1), reduction="sum")
        (gradient,) = torch.autograd.grad(loss, inputs)
    with torch.no_grad():
        moved = network(inputs.detach() - epsilon * gradient.sign())
    return msp(moved.double() / temperature)
