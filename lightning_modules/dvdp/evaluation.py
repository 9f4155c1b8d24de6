"""How good generated images are: distances to the test split, in features of a fixed network, and in spectra."""

from pathlib import Path
from typing import TypedDict

from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance, NoTrainInceptionV3
from torchmetrics.image.kid import KernelInceptionDistance

from lightning_modules.dvdp.process import ProcessError
from metrics.label_features import load_label_features
from metrics.spectrum import LogSpectrumError


class EvaluationOptions(TypedDict):
    """What the test draws and compares.

    `samples` images are drawn with `steps` steps, and again with each number of steps in `curve`; the cost-quality plot
    shows all of these. `features` is a checkpoint of a label network for the Fréchet distance of a procedural world,
    or null. `inception` is the file of Inception weights that FID and KID are computed with, or null. `kid_subset` is
    the size of KID's subsets. `batch` images are drawn at a time.
    """

    samples: int
    steps: int
    curve: list[int]
    batch: int
    features: str | None
    inception: str | None
    kid_subset: int


class ImageDistances(nn.Module):
    """The distances of one set of generated images to the real ones: `fd`, `psd_error`, and `fid`, `kid` with weights.

    Args:
        options: see `EvaluationOptions`.
        channels: channels of the images.
        size: side of the images.

    Raises:
        ProcessError: if weights are not there, or there are fewer images than KID needs.
    """

    def __init__(self, options: EvaluationOptions, channels: int, size: int) -> None:
        super().__init__()
        self.metrics = nn.ModuleDict({"psd_error": LogSpectrumError(size)})
        if options["features"]:
            self.metrics["fd"] = FrechetInceptionDistance(
                load_label_features(options["features"], channels), reset_real_features=False
            )
        if options["inception"]:
            if not Path(options["inception"]).is_file():
                raise ProcessError(f"evaluation.inception: no file {options['inception']}")
            if options["samples"] < options["kid_subset"]:
                raise ProcessError(
                    f"evaluation.samples is {options['samples']}, fewer than evaluation.kid_subset,"
                    f" {options['kid_subset']}"
                )
            inception = NoTrainInceptionV3("inception-v3-compat", ["2048"], options["inception"])
            self.metrics["fid"] = FrechetInceptionDistance(_Bytes(inception), reset_real_features=False)
            self.metrics["kid"] = KernelInceptionDistance(
                _Bytes(inception), subset_size=options["kid_subset"], reset_real_features=False
            )

    def update(self, images: Float[Tensor, "b c h w"], real: bool) -> None:
        """Take up images in -1..1."""
        for metric in self.metrics.values():
            metric.update(images, real=real)

    def forget_generated(self) -> None:
        """Make room for another set of generated images; the real ones stay."""
        for metric in self.metrics.values():
            metric.reset()

    def compute(self) -> dict[str, Tensor]:
        """Return every distance, over all processes."""
        found: dict[str, Tensor] = {}
        for name, metric in self.metrics.items():
            value = metric.compute()
            found |= {"kid": value[0], "kid_std": value[1]} if name == "kid" else {name: value}
        return found


class _Bytes(nn.Module):
    """Inception as FID and KID want it: grey images three times, -1..1 as bytes."""

    num_features = 2048

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        coloured = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
        return self.network(((coloured.clamp(-1, 1) + 1) * 127.5).round().byte())
