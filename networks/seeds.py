"""Seeds of a run's streams of random numbers, by what they are for instead of by what was drawn before."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

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


def named_seed(seed: int, name: str, *numbers: int) -> int:
    """Return the seed, from 0 to below 2^63, of the stream of a name and of numbers, such as a step and a position."""
    text = "/".join(map(str, (seed, name, *numbers)))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) >> 1


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let torch's default generators draw from a seed within, and continue after it as if nothing had been drawn."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        for device in devices:
            torch.cuda.default_generators[device].manual_seed(seed)
        yield


@contextmanager
def own_initialization(name: str) -> Iterator[None]:
    """Draw the initial weights of an optional part within: they depend on torch's seed and on its name alone.

    What is built before does not move them, and they do not move what is drawn after.

    Args:
        name: the part's, "inverse_renderer" for instance.
    """
    with seeded(named_seed(torch.initial_seed(), name)):
        yield
