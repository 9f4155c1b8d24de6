"""Which reference samples each try of a few-shot evaluation uses."""

from hashlib import blake2b

import torch
from jaxtyping import Float, Int
from torch import Tensor

from common.errors import UserError


def draw_tries(labels: Int[Tensor, " n"], shots: int) -> Int[Tensor, "tries refs"]:
    """Return the indices of each try's references: `shots` of every class, no sample in two tries.

    The pool is sorted by class, and try t takes every T-th of it from the t-th on (code: fs_evaluate.py), class by
    class, so that classes of different sizes serve too; the smallest sets T, the number of tries.

    Args:
        labels: classes of the pool's samples, any numbers.
        shots: references per class and try.

    Raises:
        ValueError: if a class has fewer than `shots` samples, or the pool is empty.
    """
    if shots < 1 or not len(labels):
        raise ValueError(f"{shots} shots of a pool of {len(labels)} references: both must be at least 1")
    order = labels.argsort(stable=True)
    classes, counts = labels.unique(return_counts=True)
    least = int(counts.argmin())
    tries = int(counts[least]) // shots
    if not tries:
        number, count = int(classes[least]), int(counts[least])
        raise ValueError(f"class {number} has {count} references, fewer than {shots} shots")
    steps = torch.arange(shots, device=labels.device) * tries
    first = (counts.cumsum(0) - counts).unsqueeze(1)
    return torch.stack([order[first + steps + number].flatten() for number in range(tries)])


def image_keys(images: Float[Tensor, "n c h w"]) -> Int[Tensor, " n"]:
    """Return a 63-bit number of each image, which two images share only if all their pixels are equal."""
    rows = images.detach().float().cpu().contiguous().numpy()
    keys = [int.from_bytes(blake2b(image.tobytes(), digest_size=8).digest(), "big") >> 1 for image in rows]
    return torch.tensor(keys, dtype=torch.int64)


def shared_samples(tested: Int[Tensor, " n"], pool: Int[Tensor, " m"]) -> Int[Tensor, " s"]:
    """Return the sample numbers that are both tested and in the reference pool: there must be none (leakage)."""
    return tested[torch.isin(tested, pool)].unique()


def require_disjoint(tested: Int[Tensor, " n"], pool: Int[Tensor, " m"], name: str) -> None:
    """Refuse references that are test images too: few-shot scores would know the answer.

    Args:
        tested: `image_keys` of the tested images.
        pool: those of the references.
        name: name of the tested OoD set.

    Raises:
        UserError: if they share an image.
    """
    count = len(shared_samples(tested, pool))
    if count:
        raise UserError(f"leakage: {count} image(s) of the few-shot references are in the test of {name} too")
