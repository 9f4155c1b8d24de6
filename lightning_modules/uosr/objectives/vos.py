"""VOS: virtual outliers drawn in feature space, without any outlier image (Du et al. 2022)."""

from collections.abc import Mapping
from typing import Any, TypedDict

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn
from torch.distributions import Chi2
from torch.nn import functional

from common.ranges import Fraction, NonNegativeFloat, PositiveInt
from lightning_modules.uosr.network import Network, Seen, at_least_float32
from lightning_modules.uosr.objectives.objective import Loss, Objective, correct
from networks.distributed import gather_rows, sum_for_averaged_gradients, world_size


class VirtualOutlierOptions(TypedDict):
    """Weight of the term, share of the training before it, features kept a class, draws a class, and how many stay."""

    weight: NonNegativeFloat
    start_fraction: Fraction
    queue_size: PositiveInt
    num_candidates: PositiveInt
    select: PositiveInt


class FeatureQueues(nn.Module):
    """The last `length` features of every class, in buffers, so that a resumed run goes on with the same ones."""

    rows: Float[Tensor, "k q d"]
    written: Int[Tensor, " k"]

    def __init__(self, num_classes: int, length: int, num_features: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(num_classes, length, num_features))
        self.register_buffer("written", torch.zeros(num_classes, dtype=torch.long))

    @property
    def full(self) -> bool:
        """Whether every class has all its features."""
        return bool((self.written >= self.rows.shape[1]).all())

    @torch.no_grad()
    def push(self, features: Float[Tensor, "b d"], labels: Int[Tensor, " b"]) -> None:
        """Put features behind their class's last one, over the oldest."""
        length = self.rows.shape[1]
        # Of at most `length` features no two meet in one slot.
        for some, their in zip(features.split(length), labels.split(length), strict=True):
            one_hot = (their[:, None] == torch.arange(len(self.written), device=their.device)).long()
            place = (one_hot.cumsum(dim=0) * one_hot).sum(dim=1) - 1
            self.rows[their, (self.written[their] + place) % length] = some.to(self.rows.dtype)
            self.written += one_hot.sum(dim=0)

    def gaussians(self) -> tuple[Float[Tensor, "k d"], Float[Tensor, "d d"]]:
        """Return the means of the classes and the Cholesky factor of their shared covariance."""
        means = self.rows.mean(dim=1)
        centred = (self.rows - means[:, None]).flatten(0, 1)
        covariance = (centred.T @ centred / len(centred)).double()
        # The published code adds 1e-4 for the same reason: silent features have no variance.
        covariance.diagonal().add_(1e-4)
        return means, torch.linalg.cholesky(covariance).to(means.dtype)


class VirtualOutliers(Objective):
    """Cross-entropy, plus a logistic loss on the weighted energy of known features against virtual outliers.

    Weighted energy: E = -log sum_k relu(w_k) exp f_k. Virtual outliers are the least likely of many draws from each
    class's Gaussian. (The official UOSR code trains outlier exposure under this name.)
    """

    own_score = "weighted_energy"

    def __init__(self, num_features: int, num_classes: int, options: VirtualOutlierOptions) -> None:
        super().__init__()
        self.options = options
        self.queues = FeatureQueues(num_classes, options["queue_size"], num_features)
        self.class_weights = nn.Parameter(torch.rand(num_classes))
        self.logistic = nn.Linear(1, 1)

    def energy(self, logits: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
        """Return the weighted energy of logits."""
        return -(logits + functional.relu(self.class_weights).add(1e-12).log()).logsumexp(dim=1)

    @torch.no_grad()
    def synthesise(self) -> Float[Tensor, "k*select d"]:
        """Return the `select` least likely of `draws` draws of every class's Gaussian.

        Likelihood depends on the length of the whitened draw alone, and length and direction of a normal draw are
        independent: so only lengths are drawn many times, and directions just for the longest. The law is the same.
        """
        means, factor = self.queues.gaussians()
        classes, size = means.shape
        with self.noise.seeding("lengths"):
            squared = Chi2(torch.tensor(float(size), device=means.device)).sample(
                (classes, self.options["num_candidates"])
            )
        length = squared.topk(self.options["select"], dim=1).values.sqrt()
        source = self.noise.shared("directions", means.device)
        shape = (classes, self.options["select"], size)
        direction = functional.normalize(torch.randn(shape, generator=source, device=means.device), dim=2)
        return (means[:, None] + (length[..., None] * direction) @ factor.T).flatten(0, 1)

    def forward(self, network: Network, batch: Mapping[str, Any]) -> Loss:
        """Return CE + weight * logistic loss, once the queues are full and `start_fraction` of the training is done."""
        seen = network(batch["image"])
        loss = functional.cross_entropy(seen.logits, batch["label"])
        if self.progress >= self.options["start_fraction"] and self.queues.full:
            loss = loss + self.options["weight"] * self._logistic_loss(network, seen)
        self.queues.push(gather_rows(seen.features), gather_rows(batch["label"]))
        return Loss(loss, correct(seen.logits, batch["label"]))

    def _logistic_loss(self, network: Network, seen: Seen) -> Float[Tensor, ""]:
        """Return the logistic loss, averaged over the known features of all processes and the virtual outliers."""
        virtual = self.energy(at_least_float32(network.head(self.synthesise())))
        known, other = (
            at_least_float32(self.logistic(energies[:, None])) for energies in (self.energy(seen.logits), virtual)
        )
        # All processes draw the same outliers, so that these count once.
        total = sum_for_averaged_gradients(functional.softplus(-known).sum()) + functional.softplus(other).sum()
        return total / (len(known) * world_size() + len(other))

    def score(self, seen: Seen) -> Float64[Tensor, " n"]:
        """Return the weighted energy."""
        return self.energy(seen.logits.double())
