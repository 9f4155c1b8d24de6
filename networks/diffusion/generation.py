"""Images in batches; each depends on its index and the seed, not on the batch size or the process that draws it."""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from networks.diffusion.conditions import Predict
from networks.diffusion.samplers import ImageSampler
from networks.seeds import stream_generator


def image_generators(seed: int, indices: Sequence[int]) -> list[torch.Generator]:
    """Return a generator for each image, on the CPU so that every device draws the same."""
    return [stream_generator(seed, index) for index in indices]


def image_noise(
    shape: tuple[int, int, int], generators: Sequence[torch.Generator], device: torch.device | str = "cpu"
) -> Float[Tensor, "b c h w"]:
    """Return white noise of images of a shape [c, h, w], each drawn from its own generator, on that one's device."""
    drawn = [torch.randn(shape, generator=generator, device=generator.device) for generator in generators]
    return torch.stack(drawn).to(device)


def network_calls(sampler: ImageSampler, count: int, batch: int) -> int:
    """Return how often `generate_images` calls `on_step`."""
    return math.ceil(count / batch) * sampler.calls


def generate_images(
    sampler: ImageSampler,
    predict: Callable[[Sequence[int]], Predict],
    shape: tuple[int, int, int],
    indices: Sequence[int],
    *,
    batch: int,
    seed: int,
    device: torch.device | str = "cpu",
    on_step: Callable[[], object] | None = None,
) -> Iterator[Float[Tensor, "b c h w"]]:
    """Yield the images with these indices, a batch at a time.

    Args:
        sampler: the sampler.
        predict: returns the network under the conditions of the images with the given indices.
        shape: shape [c, h, w] of an image.
        indices: indices of the images, such as `range(rank, count, world_size)` for one of several processes.
        batch: number of images drawn at a time.
        seed: seed of all noise.
        device: device that the images are drawn on.
        on_step: called after every network call, `network_calls` times.
    """
    for first in range(0, len(indices), batch):
        chosen = indices[first : first + batch]
        generators = image_generators(seed, chosen)
        noise = image_noise(shape, generators, device)
        yield sampler(predict(chosen), noise, generators=generators, on_step=on_step)
