"""Seeds of a run's streams of random numbers, by what they are for instead of by what was drawn before."""

import torch

# Seeds of neighboring runs are so far apart that the streams of one run fit between them.
_STRIDE = 1_000_003


def stream_seed(seed: int, stream: int = 0) -> int:
    """Return the seed of one of a run's streams of random numbers.

    Args:
        seed: the run's seed.
        stream: number of the stream (a step, the index of an image), below 1,000,003.
    """
    return seed * _STRIDE + stream


def stream_generator(seed: int, stream: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """Return what draws the random numbers of a stream."""
    return torch.Generator(device).manual_seed(stream_seed(seed, stream))
