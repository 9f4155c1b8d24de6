"""The contrastive loss between images and texts, with the samples of all ranks as each other's negatives."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from networks.distributed import gather_rows, gather_rows_with_gradient
from networks.precision import single_precision


def contrastive_loss(
    images: Float[Tensor, "b d"], labels: Int[Tensor, " b"], captions: Float[Tensor, "k d"], scale: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Return InfoNCE both ways over the global batch; every rank has to hold equally many samples.

    Args:
        images: features of this rank's images.
        labels: which of the captions is each image's.
        captions: features of k captions, the same on every rank.
        scale: factor of the cosines.
    """
    images, labels = gather_rows_with_gradient(images), gather_rows(labels)
    same = (labels[:, None] == labels).float()
    return soft_contrastive(images, captions[labels], same, scale)


def soft_contrastive(
    images: Float[Tensor, "b d"], texts: Float[Tensor, "b d"], same: Float[Tensor, "b b"], scale: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Return InfoNCE both ways, in which all samples with one caption share the target.

    Args:
        images: image features.
        texts: text features of their captions.
        same: 1 where two samples have one caption.
        scale: factor of the cosines.
    """
    with single_precision(images):
        logits = scale * functional.normalize(images.float(), dim=-1) @ functional.normalize(texts.float(), dim=-1).mT
        target = same / same.sum(dim=1, keepdim=True)
        return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.mT, target)) / 2
