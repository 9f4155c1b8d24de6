"""How local the effect of linked axes is, and what that costs in diversity (§2.8)."""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics import MeanMetric

# A change below this, images being -1..1, is none.
_NO_CHANGE = 1e-8
_SUMS = ("full_in", "full_out", "linked_in", "linked_out", "others_in", "moved_in", "moved_out", "real_in")
_REPORTED = (
    "leak_in",
    "leak_out",
    "hold",
    "diversity",
    "edit_mse_inside",
    "edit_mse_outside",
    "cross_mse_inside",
    "cross_mse_outside",
)


def ratio(part: Tensor, whole: Tensor, without: float) -> Tensor:
    """Return a part of a whole; `without` where the whole is no change at all."""
    return part / whole if float(whole) > _NO_CHANGE else torch.full_like(whole, without)


class LocalityErrors(nn.Module):
    """Means of squared changes per pixel inside and outside of each link's region, over the samples of all processes.

    "full" is all axes drawn anew, "linked" the link's own, "others" all others; "moved" are the perturbations of
    training, of the others inside and of the linked ones outside; "real" is the change from one real image to another.

    Args:
        links: names of the links.
    """

    def __init__(self, links: Sequence[str]) -> None:
        super().__init__()
        self.links = list(links)
        self.sums = nn.ModuleDict({f"{name}/{kind}": MeanMetric() for name in links for kind in _SUMS})

    def update(self, name: str, kind: str, values: Float[Tensor, " b"]) -> None:
        """Add the changes of a batch, one for each sample."""
        cast(MeanMetric, self.sums[f"{name}/{kind}"]).update(values)

    def _of(self, name: str) -> dict[str, Tensor]:
        mean = {kind: cast(MeanMetric, self.sums[f"{name}/{kind}"]).compute() for kind in _SUMS}
        # A generator whose images never change has kept nothing apart: that is the worst value, not the best.
        return {
            "leak_in": ratio(mean["others_in"], mean["full_in"], 1.0),
            "leak_out": ratio(mean["linked_out"], mean["full_out"], 1.0),
            "hold": ratio(mean["linked_in"], mean["full_in"], 0.0),
            "diversity": ratio(mean["full_in"], mean["real_in"], 0.0),
            # The paper's table 2: a region is edited by its own axes; more inside, less outside is better.
            "edit_mse_inside": mean["linked_in"],
            "edit_mse_outside": mean["linked_out"],
            # The paper's table 3: what must not change when w is perturbed; less is better for both.
            "cross_mse_inside": mean["moved_in"],
            "cross_mse_outside": mean["moved_out"],
        }

    def compute(self) -> dict[str, Tensor]:
        """Return every figure as the mean over links and, of several links, of each: `leak_in`, `leak_in_eyes`."""
        found = {name: self._of(name) for name in self.links}
        if not found:
            return {}
        means = {what: torch.stack([each[what] for each in found.values()]).mean() for what in _REPORTED}
        if len(found) == 1:
            return means
        return means | {f"{what}_{name}": found[name][what] for name in found for what in _REPORTED}
