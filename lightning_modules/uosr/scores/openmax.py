"""OpenMax (Bendale and Boult, CVPR 2016): probability of an unknown class from distances to mean activations.

The official repository ships only OpenMax's results. pytorch-ood's OpenMax is not used: it leaves the distance at 0
for classes that no sample of the batch is predicted as, so a score depends on its batch, and it loops over samples.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.stats import gumbel_l
from torch import Tensor


class OpenMax:
    """Logits revised by how far a sample lies in the tail of its top classes.

    libmr shifts a tail by 10,000 before it fits a two-parameter Weibull, which makes it the Weibull's Gumbel limit but
    for a part in a thousand. We fit the limit, whose maximum-likelihood solution is stable.

    Args:
        logits: activations of the training samples.
        labels: their classes; means and tails are of the correctly classified ones, as in the paper.
        tail: number of largest distances that a class's tail is fitted to (20 in the published code).
        alpha: number of top classes that are revised (10 in the published code); clipped to the number of classes.
    """

    def __init__(
        self, logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], tail: int = 20, alpha: int = 10
    ) -> None:
        logits = logits.double()
        classes = logits.shape[1]
        self.means = torch.zeros(classes, classes, dtype=torch.float64, device=logits.device)
        self.location = torch.zeros(classes, dtype=torch.float64, device=logits.device)
        self.spread = torch.ones_like(self.location)
        self.fitted = torch.zeros(classes, dtype=torch.bool, device=logits.device)
        self.ranks = (alpha - torch.arange(min(alpha, classes), dtype=torch.float64, device=logits.device)) / alpha
        correct = logits.argmax(1) == labels
        for number in range(classes):
            own = logits[correct & (labels == number)]
            if len(own) > 1:
                self.means[number] = own.mean(0)
                far = (own - self.means[number]).norm(dim=1).topk(min(tail, len(own))).values
                self.location[number], self.spread[number] = _fit_tail(far.cpu().numpy())
                self.fitted[number] = True

    def __call__(self, logits: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
        """Return the log-odds against the most probable known class, float64.

        Ordered as one minus its probability, without saturation: high where the unknown class is probable and where no
        known class is, the two grounds on which OpenMax rejects.
        """
        logits = logits.double()
        distance = torch.cdist(logits, self.means, compute_mode="donot_use_mm_for_euclid_dist")
        in_tail = -torch.expm1(-((distance - self.location) / self.spread).clamp(max=700).exp())
        # A class that was never predicted rightly has no tail: every prediction of it is suspect.
        in_tail = torch.where(self.fitted, in_tail, 1.0)
        top = logits.topk(len(self.ranks), 1).indices
        weight = torch.zeros_like(logits).scatter(1, top, self.ranks.expand(len(logits), -1)) * in_tail
        known, unknown = logits * (1 - weight), (logits * weight).sum(1, keepdim=True)
        best, chosen = known.max(1, keepdim=True)
        others = torch.cat((known.scatter(1, chosen, -torch.inf), unknown), dim=1)
        return others.logsumexp(1) - best.squeeze(1)


def _fit_tail(distances: np.ndarray) -> tuple[float, float]:
    """Return location and scale of the largest distances; equal distances get a scale that is small, not zero."""
    least = 1e-6 * max(float(distances.max()), 1e-6)
    if np.ptp(distances) <= least:
        return float(distances.mean()), least
    location, scale = gumbel_l.fit(distances)
    return float(location), max(float(scale), least)
