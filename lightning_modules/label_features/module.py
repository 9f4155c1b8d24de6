"""Training of the network behind the Fréchet distance of procedural worlds: it reads what the generator knows of an image."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric

from lightning_modules.base import BasePaper
from lightning_modules.optimisation import OptimizerOptions, WarmCosine, build_optimizer, warm_cosine
from metrics.label_features import LabelFeatures


class LabelFeatureTraining(BasePaper):
    """Cross-entropy on every label of the world, and on how much noise was added to the image.

    Generated images have grain that real ones lack. So white noise is added to half of the images while training, and
    its strength is one more label: the features tell grain, and still read the shapes behind it.

    Args:
        in_channels: channels of the images.
        label_sizes: number of classes of each of the batch's `labels`.
        width: number of features.
        grain: largest deviation of the noise, images being -1..1.
        grain_bins: number of classes of the noise's strength, the first without noise.
        optimizer: options of the optimizer.
        schedule: how the learning rate moves.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        label_sizes: list[int],
        width: int,
        grain: float,
        grain_bins: int,
        optimizer: OptimizerOptions,
        schedule: WarmCosine,
    ) -> None:
        super().__init__()
        if grain_bins < 2 or grain <= 0:
            raise ValueError(f"model.grain is {grain}, model.grain_bins is {grain_bins}: above 0, and at least 2")
        self.save_hyperparameters()
        self.network: LabelFeatures | None = None

    def configure_model(self) -> None:
        """Build the network."""
        if self.network is None:
            h = self.hparams
            self.network = LabelFeatures(h.in_channels, [*h.label_sizes, h.grain_bins], h.width)
            self.right = MeanMetric()

    def with_grain(self, images: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c h w"], Tensor]:
        """Return the images, about half of them noisy, and the class [b] of each noise."""
        h = self.hparams
        strength = (2 * torch.rand(len(images), device=images.device) - 1).clamp_min(0)
        classes = (strength * (h.grain_bins - 1)).ceil().long()
        return images + h.grain * strength[:, None, None, None] * torch.randn_like(images), classes

    def _read(self, batch: Mapping[str, Any]) -> tuple[list[Tensor], Tensor]:
        assert self.network is not None
        images, grain = self.with_grain(batch["image"])
        return self.network.logits(images), torch.cat([batch["labels"], grain[:, None]], dim=1)

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Return the mean cross-entropy over the labels."""
        logits, labels = self._read(batch)
        loss = torch.stack([functional.cross_entropy(a, b) for a, b in zip(logits, labels.T, strict=True)]).mean()
        if self._trainer is not None:
            self.log("train/loss", loss, prog_bar=True, batch_size=len(labels), sync_dist=True)
        return loss

    def _measure(self, batch: Mapping[str, Any]) -> None:
        logits, labels = self._read(batch)
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
        total, share = int(self.trainer.estimated_stepping_batches), self.hparams.schedule["warmup_share"]
        optimizer = build_optimizer(self.trained_parameters(), self.hparams.optimizer)
        schedule = LambdaLR(optimizer, lambda step: warm_cosine(step, total, share))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
