"""Pretraining of the mini-CLIP, the stand-in for CLIP: stills and captions of a procedural world (§3.1)."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, TypedDict, cast

import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn import functional
from torchmetrics import MeanMetric

from common.ranges import PositiveInt
from lightning_modules.base import BasePaper
from lightning_modules.optimization import OptimizerOptions, WarmCosine, build_optimizer, with_warm_cosine
from networks.clip.contrastive import contrastive_loss
from networks.clip.mini import MINI, MiniOptions, check_mini
from networks.clip.tokenizers import tokenize
from networks.clip.towers import build_clip, check_towers
from networks.distributed import world_size


class MiniCLIPOptions(TypedDict):
    """The hyper-parameters of `MiniCLIP`, which describes each."""

    image_size: int
    mini: MiniOptions
    prompt: str
    optimizer: OptimizerOptions
    schedule: WarmCosine


class MiniCLIP(BasePaper):
    """Two small towers that learn which caption is whose.

    Args:
        image_size: side of the stills in pixels.
        mini: see `MiniOptions`.
        prompt: what a class name is put into.
        optimizer: options of the optimizer.
        schedule: how the learning rate moves.
    """

    needs: ClassVar = {"captions": ""}

    def __init__(
        self,
        *,
        image_size: PositiveInt,
        mini: MiniOptions,
        prompt: str,
        optimizer: OptimizerOptions,
        schedule: WarmCosine,
    ) -> None:
        super().__init__()
        check_towers({"name": MINI, "weights": None, "prompt": prompt})
        check_mini(mini)
        self.save_hyperparameters()
        self.clip: Any = None

    @property
    def options(self) -> MiniCLIPOptions:
        """The constructor's options."""
        return cast(MiniCLIPOptions, self.hparams)

    def configure_model(self) -> None:
        """Build the towers."""
        if self.clip is None:
            self.clip = build_clip(MINI, self.options["mini"], self.options["image_size"])
            self.right = MeanMetric()

    def _tokens(self, data: Any) -> Tensor:
        h, names = self.options, data.class_names("fit")
        return tokenize(MINI, h["mini"], [h["prompt"].replace("{}", name) for name in names])

    def start_checks(self, data: Any) -> Iterator[Callable[[], object]]:
        """Yield a look at the names."""
        yield lambda: self._tokens(data)

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Return the contrastive loss of a batch."""
        images, captions = (
            self.clip.encode_image(batch["image"]),
            self.clip.encode_text(self._tokens(self.datamodule).to(self.device)),
        )
        loss = contrastive_loss(images, batch["label"], captions, self.clip.logit_scale.exp())
        count = len(batch["label"]) * world_size()
        self.log("train/loss", loss, prog_bar=True, batch_size=count, sync_dist=True)
        return loss

    def cost_step(self, batch: dict[str, Any]) -> None:
        """Do one step's forward and backward pass."""
        images = self.clip.encode_image(batch["image"])
        texts = self.clip.encode_text(
            torch.zeros(len(images), self.options["mini"]["context_length"], dtype=torch.int64)
        )
        (images @ texts.mT).mean().backward()

    def _measure(self, batch: Mapping[str, Any]) -> None:
        images, texts = (
            self.clip.encode_image(batch["image"]),
            self.clip.encode_text(self._tokens(self.datamodule).to(self.device)),
        )
        nearest = (functional.normalize(images, dim=-1) @ functional.normalize(texts, dim=-1).mT).argmax(dim=1)
        self.right.update(100 * (nearest == batch["label"]).float())

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Measure how often the nearest caption is the right one, in percent."""
        self._measure(batch)

    def test_step(self, batch: Mapping[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Measure the same."""
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
        optimizer = build_optimizer(self.trained_parameters(), self.options["optimizer"], name="mini_clip")
        return with_warm_cosine(self, optimizer, self.options["schedule"]["warmup_ratio"])
