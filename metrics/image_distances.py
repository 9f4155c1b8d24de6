"""How good generated images are: distances to the test split, in features of a fixed network, and in spectra."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from common.errors import UserError
from metrics.spectrum import LogSpectrumError


class ImageDistances(nn.Module):
    """The distances of one set of generated images to the real ones: `fd`, `psd_error`, and `fid`, `kid` with weights.

    Args:
        channels: channels of the images.
        size: side of the images.
        samples: how many images will be generated.
        features: a network from images in -1..1 to features for `fd`, the Fréchet distance of a procedural world, or
            None.
        inception: a network from images uint8 to `num_features` features that `fid` and `kid` are computed with, or
            None.
        kid_subset: the size of KID's subsets.

    Raises:
        UserError: if there are fewer images than KID needs.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        samples: int,
        *,
        features: nn.Module | None,
        inception: nn.Module | None,
        kid_subset: int,
    ) -> None:
        super().__init__()
        self.metrics = nn.ModuleDict({"psd_error": LogSpectrumError(size)})
        if features is not None:
            self.metrics["fd"] = FrechetInceptionDistance(features, reset_real_features=False)
        if inception is not None:
            if samples < kid_subset:
                raise UserError(f"evaluation.samples is {samples}, fewer than evaluation.kid_subset, {kid_subset}")
            self.metrics["fid"] = FrechetInceptionDistance(_Bytes(inception), reset_real_features=False)
            self.metrics["kid"] = KernelInceptionDistance(
                _Bytes(inception), subset_size=kid_subset, reset_real_features=False
            )

    def _each(self) -> dict[str, Metric]:
        return {name: metric for name, metric in self.metrics.items() if isinstance(metric, Metric)}

    def update(self, images: Float[Tensor, "b c h w"], real: bool) -> None:
        """Take up images in -1..1."""
        # Lightning casts in a test step, but not at its end: both sets must be seen in the same precision.
        with torch.autocast(images.device.type, enabled=False):
            for metric in self._each().values():
                metric.update(images.float(), real=real)

    def forget_generated(self) -> None:
        """Make room for another set of generated images; the real ones stay."""
        for metric in self._each().values():
            metric.reset()

    def compute(self) -> dict[str, Tensor]:
        """Return every distance, over all processes."""
        found: dict[str, Tensor] = {}
        for name, metric in self._each().items():
            value = metric.compute()
            found |= {"kid": value[0], "kid_std": value[1]} if name == "kid" else {name: value}
        return found


class _Bytes(nn.Module):
    """Inception as FID and KID want it: grey images three times, -1..1 as bytes."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network, self.num_features = network, int(network.num_features)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        coloured = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
        return self.network(((coloured.clamp(-1, 1) + 1) * 127.5).round().byte())
