"""The contrastive loss between images and texts, with the samples of all ranks as each other's negatives."""

import torch.distributed
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.distributed.nn.functional import all_gather
from torch.nn import functional

from networks.precision import single_precision


def gather_ranks(values: Shaped[Tensor, "b ..."]) -> Shaped[Tensor, "n ..."]:
    """Return the values of all ranks, in the order of ranks; gradients flow back to the rank that they came from.

    Every rank has to hold equally many. Without a process group the values are returned as they are.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return values
    return torch.cat(all_gather(values.contiguous()))


def soft_contrastive(
    images: Float[Tensor, "b d"], texts: Float[Tensor, "b d"], same: Float[Tensor, "b b"], scale: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Return InfoNCE both ways, in which all samples with one caption share the target.

    Args:
        images: image features, of all ranks where negatives are (`gather_ranks`).
        texts: text features of their captions.
        same: 1 where two samples have one caption.
        scale: factor of the cosines.
    """
    with single_precision(images):
        logits = scale * functional.normalize(images.float(), dim=-1) @ functional.normalize(texts.float(), dim=-1).mT
        target = same / same.sum(dim=1, keepdim=True)
        return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.mT, target)) / 2
