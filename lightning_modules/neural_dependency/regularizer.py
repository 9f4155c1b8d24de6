"""A fine-tuning term that cuts or keeps the dependencies that a first network had (our formula, §2.8)."""

from pathlib import Path
from typing import Any, Literal, TypedDict

import torch
from jaxtyping import Bool, Float
from scipy.sparse import load_npz
from torch import Tensor, nn

from common.errors import UserError
from common.ranges import FractionBelowOne, NonNegativeFloat
from networks.distributed import sum_for_averaged_gradients

# What a variance is not divided below, as a share of the mean variance of all logits.
_FLOOR = 1e-6


class DependencyRegularizer(nn.Module):
    """R of a batch of logits, with the coefficients theta of the first network held fixed.

    `cut`: R = mean_i corr(f_i, u_i)^2 with u_i = sum over irrelevant j of theta_ij f_j, over the categories that have
    any. `keep`: R = mean_i FVU_i = mean_i Var(f_i - sum_j theta_ij f_j) / Var(f_i).

    Correlations of K logits from a small batch are noise. So with a momentum the second moments are
    smoothed over batches; their gradient is that of the batch's own. All processes share one batch.

    Args:
        theta: [K, K], row i holds the coefficients of category i, zero on the diagonal. A buffer: it is never trained,
            never computed anew, and travels in the checkpoint.
        mode: "cut" or "keep".
        irrelevant: bool [K, K], for `cut`: which j have nothing in common with i.
        momentum: 0 takes the batch alone, 0.9 nine parts of what was seen before.

    Raises:
        ValueError: if these do not fit, or `cut` has nothing to cut.
    """

    theta: Tensor
    running: Tensor
    batches: Tensor

    def __init__(
        self,
        theta: Float[Tensor, "k k"],
        mode: Literal["cut", "keep"],
        irrelevant: Bool[Tensor, "k k"] | None = None,
        momentum: float = 0.0,
    ) -> None:
        super().__init__()
        theta = theta.detach().float().clone()
        if mode not in {"cut", "keep"}:
            raise ValueError(f"there is no regularizer '{mode}': take cut or keep")
        if theta.ndim != 2 or theta.shape[0] != theta.shape[1] or theta.diagonal().any():
            raise ValueError("theta must be square, with zeros on the diagonal")
        if not 0 <= momentum < 1:
            raise ValueError(f"the momentum is {momentum}, should be at least 0 and below 1")
        if mode == "cut":
            if irrelevant is None or irrelevant.shape != theta.shape:
                raise ValueError("cut needs to know which categories have nothing in common, a mask like theta")
            theta = theta * irrelevant.to(theta.device)
            if not theta.any():
                raise ValueError("cut: no category depends on an irrelevant one, there is nothing to cut")
        self.mode, self.momentum = mode, momentum
        self.register_buffer("theta", theta)
        self.register_buffer("running", torch.zeros(5, len(theta), dtype=torch.float64))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, logits: Float[Tensor, "b k"]) -> Float[Tensor, ""]:
        """Return R, differentiable by the logits; in training mode the smoothed moments move on."""
        with torch.autocast(logits.device.type, enabled=False):
            # Logits share a large mean, which the variances below are small differences beside.
            logits = logits.double()
            predicted = logits @ self.theta.double().T
            first_f, first_u, ff, uu, fu = self._smoothed(self._moments(logits, predicted))
            var_f, var_u, cov = ff - first_f**2, uu - first_u**2, fu - first_f * first_u
            floor = _FLOOR * var_f.detach().mean().clamp_min(torch.finfo(var_f.dtype).tiny)
            if self.mode == "keep":
                return ((var_f - 2 * cov + var_u) / var_f.clamp_min(floor)).mean().float()
            there = self.theta.any(dim=1)
            squares = cov**2 / (var_f.clamp_min(floor) * var_u.clamp_min(floor))
            return squares[there].mean().float()

    @staticmethod
    def _moments(logits: Tensor, predicted: Tensor) -> Float[Tensor, "5 k"]:
        """Return the means of f, u, f^2, u^2 and f u over the samples of all processes."""
        terms = (logits, predicted, logits**2, predicted**2, logits * predicted)
        sums = torch.stack([term.sum(dim=0) for term in terms])
        count = sums.new_full((1,), len(logits))
        return sum_for_averaged_gradients(sums) / sum_for_averaged_gradients(count)

    def _smoothed(self, moments: Tensor) -> Tensor:
        """Return the moments in the smoothed place, with the gradient of the batch's own."""
        share = self.momentum if self.batches > 0 else 0.0
        smooth = share * self.running + (1 - share) * moments.detach()
        if self.training:
            self.running.copy_(smooth)
            self.batches += 1
        return smooth + (moments - moments.detach())


class RegularizerOptions(TypedDict):
    """A term of the training loss.

    `kind` is none, cut or keep; `weight` is beta; `momentum` smooths the moments over batches; `dependencies` is the
    checkpoint of a run whose dependencies are cut or kept (its folder keeps them), or a sparse `.npz` file.
    """

    kind: Literal["none", "cut", "keep"]
    weight: NonNegativeFloat
    momentum: FractionBelowOne
    dependencies: str | None


def build_regularizer(options: RegularizerOptions, data: Any) -> DependencyRegularizer:
    """Return the regularizer of the dependencies that an earlier run has kept.

    Args:
        options: see `RegularizerOptions`; `kind` is cut or keep.
        data: the DataModule, whose `shared_attributes()` says which categories have nothing in common.

    Raises:
        UserError: if there is no such file, or nothing says which categories have nothing in common.
    """
    kind, named = options["kind"], options["dependencies"]
    assert kind != "none"
    if named is None:
        raise UserError("model.regularizer.dependencies: name a run or a file whose dependencies are meant")
    path = Path(named)
    file = path if path.suffix == ".npz" else path.parent.parent / "dependencies" / "uncentred.npz"
    if not file.is_file():
        raise UserError(f"model.regularizer.dependencies: no {file}; a finished neural_dependency run has one")
    theta = torch.from_numpy(load_npz(file).toarray())
    irrelevant = None
    if kind == "cut":
        shared = data.shared_attributes() if hasattr(data, "shared_attributes") else None
        if shared is None:
            raise UserError("model.regularizer.kind=cut needs data whose categories have attributes")
        irrelevant = torch.from_numpy(shared[: len(theta), : len(theta)] == 0)
    try:
        return DependencyRegularizer(theta, kind, irrelevant, options["momentum"])
    except ValueError as error:
        raise UserError(f"model.regularizer: {error}") from None
