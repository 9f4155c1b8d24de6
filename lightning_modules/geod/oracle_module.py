"""Training of the oracle on the truth about rendered heads; no generator is trained with it."""

from collections.abc import Mapping
from typing import Any, ClassVar, TypedDict, cast

from jaxtyping import Float
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn import functional
from torchmetrics import MeanMetric

from common.ranges import NonNegativeFloat, PositiveInt
from lightning_modules.base import BasePaper
from lightning_modules.geod.evaluation.depth_metrics import eroded, mad
from lightning_modules.geod.evaluation.oracle import NormalOracle
from lightning_modules.optimization import OptimizerOptions, WarmCosine, build_optimizer, with_warm_cosine
from networks.cameras import focal_in_pixels, normals_of_depth
from networks.distributed import mean_over_mask
from networks.noise import with_grain


class OracleTrainingOptions(TypedDict):
    """The constructor's arguments, described by `OracleTraining`."""

    width: int
    max_noise_std: float
    optimizer: OptimizerOptions
    schedule: WarmCosine


class OracleTraining(BasePaper):
    """Normals by their cosine inside the object, and the object's mask.

    Args:
        width: channels at full size.
        max_noise_std: largest deviation of the white noise that half of the images get, so that a generator's misleads
            it less.
        optimizer: options of the optimizer.
        schedule: how the learning rate moves.
    """

    needs: ClassVar = {"depth": "", "cameras": ""}

    def __init__(
        self, *, width: PositiveInt, max_noise_std: NonNegativeFloat, optimizer: OptimizerOptions, schedule: WarmCosine
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.oracle: NormalOracle | None = None

    @property
    def options(self) -> OracleTrainingOptions:
        """The constructor's arguments."""
        return cast(OracleTrainingOptions, self.hparams)

    def configure_model(self) -> None:
        """Build the network."""
        if self.oracle is None:
            self.oracle = NormalOracle(self.options["width"])
            self.error = MeanMetric()

    @staticmethod
    def truth(batch: Mapping[str, Any]) -> Float[Tensor, "b h w 3"]:
        """Return the true normals of a batch."""
        depth = batch["depth"]
        return normals_of_depth(depth, focal_in_pixels(batch["camera"], depth.shape[-1]))

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Return the loss of images of which half have grain."""
        assert self.oracle is not None
        image, mask = batch["image"], batch["mask"].float()
        normals, logits = self.oracle(with_grain(image, self.options["max_noise_std"], self.noise))
        wrong = mean_over_mask(1 - (normals * self.truth(batch)).sum(dim=-1), eroded(mask))
        loss = wrong + functional.binary_cross_entropy_with_logits(logits, mask)
        if self._trainer is not None:
            self.log("train/loss", loss, prog_bar=True, batch_size=len(image), sync_dist=True)
        return loss

    def _measure(self, batch: Mapping[str, Any]) -> None:
        assert self.oracle is not None
        self.error.update(mad(self.oracle(batch["image"])[0], self.truth(batch), eroded(batch["mask"].float())))

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Measure the mean angle deviation, in degrees."""
        self._measure(batch)

    def test_step(self, batch: Mapping[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Measure the mean angle deviation, in degrees."""
        self._measure(batch)

    def _log_error(self, stage: str) -> None:
        self.log(f"{stage}/mad", self.error.compute())
        self.error.reset()

    def on_validation_epoch_end(self) -> None:
        """Log the mean angle deviation."""
        self._log_error("val")

    def on_test_epoch_end(self) -> None:
        """Log the mean angle deviation."""
        self._log_error("test")

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimizer and its schedule."""
        optimizer = build_optimizer(self.trained_parameters(), self.options["optimizer"], name="oracle")
        return with_warm_cosine(self, optimizer, self.options["schedule"]["warmup_ratio"])
