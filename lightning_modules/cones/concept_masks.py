"""Masks of the candidate weights: theta = M * theta_0 with M trained and theta_0 frozen (cones §2.4)."""

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from common.errors import UserError

Update = Literal["mask_sgd", "multiplicative", "static", "ste"]
# Entries of which the quantile that sets the step size is taken.
_MAX_SAMPLED = 1_000_000
_QUANTILE = 0.99
# At and below it, an entry is shut in the forward pass of `ste`.
_HARD = 0.5


class ConceptMask(nn.Module):
    """A factor M, first 1, of every entry of one matrix, and S, the sum of theta * dL/dtheta over the search.

    The gradient of the loss by M is theta_0 * dL/dtheta. Both are float32 whatever the network computes in.

    Args:
        weight: the matrix.
        hard: whether the forward pass sees 0 where M is at most one half and 1 elsewhere, with the gradient passed
            straight through.
    """

    statistic: Tensor

    def __init__(self, weight: Tensor, *, hard: bool) -> None:
        super().__init__()
        self.mask = nn.Parameter(torch.ones_like(weight, dtype=torch.float32))
        self.register_buffer("statistic", torch.zeros_like(weight, dtype=torch.float32))
        self.hard = hard

    def forward(self, weight: Tensor) -> Tensor:
        """Return the masked weight."""
        if not self.hard:
            return weight * self.mask
        closed = (self.mask > _HARD).to(self.mask.dtype)
        return weight * (self.mask + (closed - self.mask).detach())


def build_masks(layers: Mapping[str, nn.Linear], *, hard: bool) -> nn.ModuleList:
    """Return a mask for each of the layers, in their order."""
    return nn.ModuleList(ConceptMask(layer.weight, hard=hard) for layer in layers.values())


def masked_weights(layers: Mapping[str, nn.Linear], masks: Iterable[nn.Module]) -> dict[str, Tensor]:
    """Return the masked weights by the names of the weights."""
    return {name: mask(layer.weight) for (name, layer), mask in zip(layers.items(), masks, strict=True)}


class MaskUpdate(Optimizer):
    """One iteration of the search, on all matrices at once.

    With s = M * dL/dM = theta * dL/dtheta, every update adds s to S and then moves M:

    - `mask_sgd`: M - rho dL/dM, kept in 0..1;
    - `multiplicative`: M (1 - rho s), so that weights with s < 0 grow;
    - `static`: M stays 1, so all statistics are those of the base;
    - `ste`: as `mask_sgd`, for masks that are hard in the forward pass.

    Args:
        masks: the masks.
        update: see above.
        rho: the step size, or None to choose it so that on the first batch the 99th percentile of a step is
            `target`.
        target: see `rho`.
    """

    def __init__(self, masks: Iterable[ConceptMask], update: Update, rho: float | None, target: float) -> None:
        self._masks = list(masks)
        if (rho is not None and rho <= 0) or target <= 0:
            raise UserError(f"model.rho is {rho} and model.rho_target {target}, both should be above 0")
        group = {"params": [mask.mask for mask in self._masks], "name": "masks"}
        # Zero until the first batch.
        super().__init__([group], {"lr": rho or 0.0})
        self.update, self.target = update, target

    @torch.no_grad()
    def step(self, closure: object = None) -> float | None:  # type: ignore[override]
        """Update the statistics and the masks."""
        loss = None
        if callable(closure):
            with torch.enable_grad():
                loss = closure()
        group = self.param_groups[0]
        masks: list[Tensor] = [mask.mask for mask in self._masks]
        gradients = [torch.zeros_like(mask) if mask.grad is None else mask.grad.float() for mask in masks]
        products = list(torch._foreach_mul(masks, gradients))  # noqa: SLF001 - one call for all matrices
        torch._foreach_add_([mask.statistic for mask in self._masks], products)
        if not group["lr"]:
            group["lr"] = self.target / _typical_step(products)
        if self.update == "multiplicative":
            torch._foreach_mul_(products, -group["lr"])
            torch._foreach_add_(products, 1.0)
            torch._foreach_mul_(masks, products)
        elif self.update != "static":
            torch._foreach_add_(masks, gradients, alpha=-group["lr"])
            torch._foreach_clamp_min_(masks, 0.0)
            torch._foreach_clamp_max_(masks, 1.0)
        return loss


def _typical_step(products: list[Tensor]) -> float:
    """Return the 99th percentile of the absolute values, of at most a million of them."""
    flat = torch.cat([product.flatten() for product in products]).abs()
    flat = flat[:: max(1, len(flat) // _MAX_SAMPLED)]
    value = float(flat.kthvalue(max(1, int(_QUANTILE * len(flat)))).values)
    if not value > 0:
        raise UserError("no gradient reaches the candidate weights: nothing in the loss depends on them")
    return value
