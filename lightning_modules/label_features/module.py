"""Training of the network behind the Fréchet distance of procedural worlds: it reads what their renderer knows."""

from collections.abc import Mapping
from typing import Any, ClassVar, TypedDict, cast

import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn import functional
from torchmetrics import MeanMetric

from common.ranges import NonNegativeFloat, PositiveInt
from lightning_modules.base import BasePaper
from lightning_modules.optimization import OptimizerOptions, WarmCosine, build_optimizer, with_warm_cosine
from networks.label_features import LabelFeatures
from networks.noise import BatchNoise, with_grain


class Options(TypedDict):
    """The constructor's options, see `LabelFeatureTraining`."""

    in_channels: int
    label_sizes: list[int]
    width: int
    max_noise_std: float
    optimizer: OptimizerOptions
    schedule: WarmCosine


class LabelFeatureTraining(BasePaper):
    """Cross-entropy on every label of the world.

    Generated images have grain that real ones lack. So white noise of any strength up to `max_noise_std` is added to
    half of the images while training: the features read the shapes behind it, and no distance is about grain alone.

    Args:
        in_channels: channels of the images.
        label_sizes: number of classes of each of the batch's `labels`.
        width: number of features.
        max_noise_std: largest deviation of the noise, images being -1..1.
        optimizer: options of the optimizer.
        schedule: how the learning rate moves.
    """

    needs: ClassVar = {"attributes": ""}

    def __init__(
        self,
        *,
        in_channels: PositiveInt,
        label_sizes: list[PositiveInt],
        width: PositiveInt,
        max_noise_std: NonNegativeFloat,
        optimizer: OptimizerOptions,
        schedule: WarmCosine,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network: LabelFeatures | None = None

    @property
    def options(self) -> Options:
        """The constructor's options."""
        return cast(Options, self.hparams)

    def configure_model(self) -> None:
        """Build the network."""
        if self.network is None:
            options = self.options
            self.network = LabelFeatures(options["in_channels"], options["label_sizes"], options["width"])
            self.right = MeanMetric()

    def _read(self, batch: Mapping[str, Any], noise: BatchNoise) -> tuple[list[Tensor], Tensor]:
        assert self.network is not None
        return self.network.logits(with_grain(batch["image"], self.options["max_noise_std"], noise)), batch["labels"]

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Return the mean cross-entropy over the labels."""
        logits, labels = self._read(batch, self.noise)
        loss = torch.stack([functional.cross_entropy(a, b) for a, b in zip(logits, labels.T, strict=True)]).mean()
        if self._trainer is not None:
            self.log("train/loss", loss, prog_bar=True, batch_size=len(labels), sync_dist=True)
        return loss

    def _measure(self, batch: Mapping[str, Any]) -> None:
        logits, labels = self._read(batch, self.evaluation_noise(batch))
        for one, label in zip(logits, labels.T, strict=True):
            self.right.update(100 * (one.argmax(dim=1) == label).float())

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Measure the accuracy, in percent, over all labels."""
        self._measure(batch)

    def test_step(self, batch: Mapping[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Measure the accuracy, in percent, over all labels."""
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
        optimizer = build_optimizer(self.trained_parameters(), self.options["optimizer"], name="label_features")
        return with_warm_cosine(self, optimizer, self.options["schedule"]["warmup_ratio"])
