"""Out-of-distribution detection by a classifier's logits, for the regularizer's ablation (§2.8)."""

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, binary_average_precision


def ood_figures(known: Float[Tensor, "n k"], unknown: Float[Tensor, "m k"]) -> dict[str, float]:
    """Return AUROC and AUPR, in percent, of finding unknown samples by the softmax and by the energy score.

    Unknown is the positive class.
    """
    labels = torch.cat([torch.zeros(len(known)), torch.ones(len(unknown))]).long()
    both = torch.cat([known, unknown]).double()
    scores = {"msp": -both.softmax(dim=1).amax(dim=1), "energy": -both.logsumexp(dim=1)}
    figures = {}
    for name, score in scores.items():
        # torchmetrics takes scores outside 0..1 through a sigmoid, in which large ones would all become 1.
        ranks = score.argsort().argsort().double() / len(score)
        figures[f"{name}/auroc"] = 100 * float(binary_auroc(ranks, labels))
        figures[f"{name}/aupr"] = 100 * float(binary_average_precision(ranks, labels))
    return figures
