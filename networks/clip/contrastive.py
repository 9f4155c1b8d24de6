"""The contrastive loss between images and texts, with the samples of all ranks as each other's negatives."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from networks.precision import single_precision


def soft_contrastive(
    images: Float[Tensor, "b d"], texts: Float[Tensor, "b d"], same: Float[Tensor, "b b"], scale: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Return InfoNCE both ways, in which all samples with one caption share the target.

    Args:
        images: image features, of all ranks where negatives are (`gather_rows_with_gradient`).
        texts: text features of their captions.
        same: 1 where two samples have one caption.
        scale: factor of the cosines.
    """
    with single_precision(images):
        logits = scale * functional.normalize(images.float(), dim=-1) @ functional.normalize(texts.float(), dim=-1).mT
        target = same / same.sum(dim=1, keepdim=True)
        return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.mT, target)) / 2
