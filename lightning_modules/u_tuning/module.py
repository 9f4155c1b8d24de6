"""U-Tuning: a frozen backbone, a tuner beside it, and a linear head (any member of the tuner group, or none)."""

from collections.abc import Mapping
from typing import Any, ClassVar, TypedDict, cast

from jaxtyping import Float
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional

from common.pixel_statistics import Statistics
from common.ranges import Fraction, PositiveInt
from lightning_modules.base import BasePaper, noise_images
from lightning_modules.means import Means
from lightning_modules.optimization import (
    OptimizerOptions,
    WarmCosine,
    build_optimizer,
    classifier_group,
    parameter_groups,
    with_warm_cosine,
)
from lightning_modules.u_tuning.backbones import build_backbone
from lightning_modules.u_tuning.merging import export_merged
from lightning_modules.u_tuning.pictures import prediction_sheet
from networks.backbones import Backbone, linear_head, load_weights, normalization

FIGURES = ("val/acc", "val/loss", "test/acc", "test/loss")


class Options(TypedDict):
    """The constructor's options, see `UTuning`."""

    num_classes: int
    in_channels: int
    image_size: int
    backbone: Backbone
    optimizer: OptimizerOptions
    schedule: WarmCosine
    label_smoothing: float
    head_dropout: float
    merge: bool
    tuner: dict[str, Any] | None


class UTuning(BasePaper):
    """Image classification with a tuned backbone: cross-entropy on a linear head over its features (§2.5).

    Without a tuner everything is trained, which is how the backbone of the glyph world is made. With one, the backbone
    is frozen and in eval mode, and the tuner brings its own learning rate.

    Args:
        num_classes: number K of classes.
        in_channels: channels of the images.
        image_size: side of the images in pixels.
        backbone: what is tuned, and its weights.
        optimizer: options of the optimizer; its `lr` serves runs without a tuner.
        schedule: how the learning rate moves.
        label_smoothing: smoothing of the training loss, 0 to 1.
        head_dropout: dropout before the head while training.
        merge: whether the test writes `checkpoints/merged.safetensors`, a plain checkpoint of backbone, tuner and head.
        tuner: what to attach, from the tuner group.
    """

    needs: ClassVar = {"images": "", "classes": ""}

    def __init__(
        self,
        *,
        num_classes: PositiveInt,
        in_channels: PositiveInt,
        image_size: PositiveInt,
        backbone: Backbone,
        optimizer: OptimizerOptions,
        schedule: WarmCosine,
        label_smoothing: Fraction,
        head_dropout: Fraction,
        merge: bool,
        tuner: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.backbone: nn.Module | None = None
        self._shown: list[tuple[Tensor, Tensor, Tensor]] = []

    @property
    def options(self) -> Options:
        """The constructor's options."""
        return cast(Options, self.hparams)

    # Networks and weights.

    @property
    def tunable(self) -> nn.Module:
        """The backbone."""
        assert self.backbone is not None
        return self.backbone

    @property
    def names_weights(self) -> bool:
        """Whether the backbone comes from a file."""
        return self.options["backbone"]["weights"] is not None

    @property
    def normalization(self) -> Statistics | None:
        """What the backbone's published weights were trained with."""
        return normalization(self.options["backbone"]["name"], own=("glyph_vit",))

    def example(self) -> tuple[Tensor]:
        """Return two images of noise."""
        return (noise_images(self.options["in_channels"], self.options["image_size"]),)

    def configure_model(self) -> None:
        """Build backbone and head.

        On a pre-trained backbone the head starts at zero (§3.1), so that every tuner starts from the same
        outputs; from scratch that would keep the backbone from learning at first.
        """
        if self.backbone is not None:
            return
        options = self.options
        self.backbone = build_backbone(options["backbone"]["name"], options["in_channels"], options["image_size"])
        self.head = linear_head(self.backbone, options["num_classes"], starts_at_zero=self.names_weights)
        self.head_dropout = nn.Dropout(options["head_dropout"])
        self.means = Means(FIGURES)

    def load_pretrained(self) -> None:
        """Load the backbone's weights, if the config names any."""
        name, weights = self.options["backbone"]["name"], self.options["backbone"]["weights"]
        if weights is not None:
            load_weights(self.tunable, name, weights)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Return the logits of images."""
        return self.head(self.head_dropout(self.tunable(images)))

    # Training and validation.

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Return the cross-entropy of a batch."""
        logits, labels = self(batch["image"]), batch["label"]
        loss = functional.cross_entropy(logits, labels, label_smoothing=self.options["label_smoothing"])
        self.log("train/loss", loss, prog_bar=True, batch_size=len(labels), sync_dist=True)
        right = 100 * (logits.argmax(dim=1) == labels).float().mean()
        self.log("train/acc", right, batch_size=len(labels), sync_dist=True)
        return loss

    def cost_step(self, batch: dict[str, Any]) -> None:
        """Do one step's forward and backward pass."""
        functional.cross_entropy(self(batch["image"]), batch["label"]).backward()

    def _measure(self, batch: Mapping[str, Any], stage: str) -> Tensor:
        logits, labels = self(batch["image"]), batch["label"]
        self.means.add(f"{stage}/acc", 100 * (logits.argmax(dim=1) == labels).float())
        self.means.add(f"{stage}/loss", functional.cross_entropy(logits.float(), labels, reduction="none"))
        return logits.argmax(dim=1)

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Measure accuracy, in percent, and cross-entropy."""
        self._measure(batch, "val")

    def on_validation_epoch_end(self) -> None:
        """Log accuracy and loss over the whole validation split."""
        self.log_dict(self.means.take("val"))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimizer over what is trained, with the tuner's learning rate if there is a tuner."""
        options = self.options["optimizer"]
        groups = parameter_groups([self], options["weight_decay"], classifier_group(self.tuner))
        optimizer = build_optimizer(groups, options, lr=None if self.tuner is None else self.tuner.lr)
        return with_warm_cosine(self, optimizer, self.options["schedule"]["warmup_ratio"])

    # Test.

    def on_test_start(self) -> None:
        """Forget the pictures of an earlier test."""
        self._shown = []

    def test_step(self, batch: Mapping[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Measure accuracy and cross-entropy, and keep the first images for the sheet."""
        predicted = self._measure(batch, "test")
        if batch_idx == 0:
            self._shown.append((batch["image"].cpu(), batch["label"].cpu(), predicted.cpu()))

    def on_test_epoch_end(self) -> None:
        """Log the metrics, show a sheet of predictions, and export the merged checkpoint if asked for."""
        self.log_dict(self.means.take("test"))
        for images, labels, predicted in self._shown:
            self.show_picture("predictions", prediction_sheet(images, labels, predicted))
        if self.options["merge"] and self.tuner is not None and self.trainer.is_global_zero:
            export_merged(self.tuner, self.head, self.run_folder / "checkpoints" / "merged.safetensors")
