"""Training of the small segmenter on a procedural world's true segmentation; frozen when links use it (§2.1)."""

from collections.abc import Mapping
from typing import Any, ClassVar, TypedDict, cast

from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn import functional
from torchmetrics import MeanMetric

from common.ranges import NonNegativeFloat, NonNegativeInt, PositiveInt
from lightning_modules.base import BasePaper
from lightning_modules.linkgan.segmenters import SmallSegmenter
from lightning_modules.optimization import OptimizerOptions, WarmCosine, build_optimizer, with_warm_cosine
from networks.noise import with_grain


class SegmenterTrainingOptions(TypedDict):
    """The constructor's arguments, described by `SegmenterTraining`."""

    in_channels: int
    classes: list[str]
    width: PositiveInt
    max_noise_std: NonNegativeFloat
    optimizer: OptimizerOptions
    schedule: WarmCosine
    seed: int


class SegmenterTraining(BasePaper):
    """Cross-entropy of every pixel's class.

    Args:
        in_channels: channels of the images.
        classes: names of the world's classes, by number.
        width: channels of the segmenter's layers.
        max_noise_std: largest deviation of the white noise that half of the images get, so that a generator's misleads
            it less.
        optimizer: options of the optimizer.
        schedule: how the learning rate moves.
        seed: seed of the noise.
    """

    needs: ClassVar = {"segmentation": ""}

    def __init__(
        self,
        *,
        in_channels: PositiveInt,
        classes: list[str],
        width: PositiveInt,
        max_noise_std: NonNegativeFloat,
        optimizer: OptimizerOptions,
        schedule: WarmCosine,
        seed: NonNegativeInt,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network: SmallSegmenter | None = None

    @property
    def options(self) -> SegmenterTrainingOptions:
        """The constructor's arguments."""
        return cast(SegmenterTrainingOptions, self.hparams)

    def configure_model(self) -> None:
        """Build the network."""
        if self.network is None:
            o = self.options
            self.network = SmallSegmenter(o["in_channels"], len(o["classes"]), o["width"])
            self.right = MeanMetric()

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Return the loss of images of which half have white noise."""
        assert self.network is not None
        image = with_grain(batch["image"], self.options["max_noise_std"], self.noise)
        loss = functional.cross_entropy(self.network(image), batch["segmentation"])
        if self._trainer is not None:
            self.log("train/loss", loss, prog_bar=True, batch_size=len(image), sync_dist=True)
        return loss

    def _measure(self, batch: Mapping[str, Any]) -> None:
        assert self.network is not None
        is_right = self.network(batch["image"]).argmax(dim=1) == batch["segmentation"]
        self.right.update(100 * is_right.float().mean(dim=(1, 2)))

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Measure the accuracy of pixels, in percent."""
        self._measure(batch)

    def test_step(self, batch: Mapping[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Measure the accuracy of pixels, in percent."""
        self._measure(batch)

    def _log_accuracy(self, stage: str) -> None:
        self.log(f"{stage}/acc", self.right.compute())
        self.right.reset()

    def on_validation_epoch_end(self) -> None:
        """Log the accuracy."""
        self._log_accuracy("val")

    def on_test_epoch_end(self) -> None:
        """Log the accuracy."""
        self._log_accuracy("test")

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimizer and its schedule."""
        optimizer = build_optimizer(self.trained_parameters(), self.options["optimizer"], name="segmenter")
        return with_warm_cosine(self, optimizer, self.options["schedule"]["warmup_ratio"])
