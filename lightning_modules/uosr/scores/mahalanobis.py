"""Squared Mahalanobis distance to one Gaussian with Ledoit-Wolf covariance, without ever forming a d x d inverse."""

import torch
from jaxtyping import Float
from sklearn.covariance import ledoit_wolf_shrinkage
from torch import Tensor


class Gaussian:
    """Mean and shrunk covariance (1 - s) S + s mu I of unit-length features, mu = tr S / d.

    S has at most n - 1 directions; in all others the covariance is s mu, so their pseudo-inverse is a number. That
    makes 200 references of 2,048 features cheap for each of 50 tries.

    Args:
        features: samples, already of unit length.
    """

    def __init__(self, features: Float[Tensor, "n d"]) -> None:
        features = features.double()
        self.mean = features.mean(0)
        centred = features - self.mean
        # A lone sample has no spread to estimate.
        lone = len(features) == 1
        shrinkage = 0.0 if lone else float(ledoit_wolf_shrinkage(centred.cpu().numpy(), assume_centered=True))
        variances, self.axes = _principal_axes(centred)
        floor = shrinkage * variances.sum() / features.shape[1]
        self.inverse = _pseudo_inverse((1 - shrinkage) * variances + floor)
        self.inverse_rest = _pseudo_inverse(floor.reshape(1))

    def __call__(self, features: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Return (x - m)^T C^+ (x - m), float64."""
        centred = features.double() - self.mean
        along = (centred @ self.axes).square()
        rest = (centred.square().sum(1) - along.sum(1)).clamp_min(0)
        # With a full set of axes nothing is left but rounding.
        if self.axes.shape[1] == features.shape[1]:
            rest = torch.zeros_like(rest)
        return along @ self.inverse + rest * self.inverse_rest


def _principal_axes(centred: Float[Tensor, "n d"]) -> tuple[Float[Tensor, " r"], Float[Tensor, "d r"]]:
    """Return variances and directions of centred samples, from the smaller of the two Gram matrices."""
    count, width = centred.shape
    if count >= width:
        variances, axes = torch.linalg.eigh(centred.T @ centred / count)
        return variances.clamp_min(0), axes
    variances, vectors = torch.linalg.eigh(centred @ centred.T / count)
    kept = variances > variances.amax().clamp_min(0) * count * torch.finfo(torch.float64).eps
    variances, vectors = variances[kept], vectors[:, kept]
    return variances, centred.T @ vectors / (variances * count).sqrt()


def _pseudo_inverse(variances: Float[Tensor, " r"]) -> Float[Tensor, " r"]:
    """Return 1 / variance, and 0 where the variance is nothing but rounding (as `pinv` does)."""
    if not len(variances):
        return variances
    small = variances <= max(float(variances.amax()) * 1e-15 * len(variances), torch.finfo(torch.float64).tiny)
    return torch.where(small, 0.0, 1 / variances.clamp_min(torch.finfo(torch.float64).tiny))
