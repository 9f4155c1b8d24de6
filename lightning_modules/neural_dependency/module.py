"""Neural Dependency: train a classifier of many categories, or take one, and read what its logits say."""

from collections.abc import Mapping
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional

from lightning_modules.base import BasePaper, noise_images
from lightning_modules.means import Means
from lightning_modules.neural_dependency.collecting import Splits
from lightning_modules.neural_dependency.earlier_run import load_run
from lightning_modules.neural_dependency.networks import (
    Classifier,
    NetworkOptions,
    SourceOptions,
    build_network,
    load_network,
)
from lightning_modules.neural_dependency.options import Options
from lightning_modules.neural_dependency.reading import ReadingOptions
from lightning_modules.neural_dependency.regularizer import (
    DependencyRegulariser,
    RegularizerOptions,
    build_regulariser,
)
from lightning_modules.neural_dependency.report import Report, Tested
from lightning_modules.neural_dependency.unseen.protocol import UnseenOptions
from lightning_modules.optimization import (
    OptimizerOptions,
    build_optimizer,
    one_cycle,
    training_steps,
    with_schedule,
)
from networks.small_conv_net import SITE_PATTERNS

FIGURES = ("val/acc", "val/loss")


class NeuralDependency(BasePaper):
    """A classifier, and in its test the dependencies between its logits (§2).

    The test sees the splits "moments", which the dependencies are fitted to, and "test", which they are measured on;
    with new categories "new_fit" and "new_test" too, and splits of unknown categories.

    Args:
        num_classes: number K of categories.
        in_channels: channels of the images.
        image_size: side of the images in pixels.
        network: the classifier that is read; `logits` for batches that hold logits instead of images.
        train_network: train it first; false reads it as its weights are.
        source: a second classifier, to predict the first one's logits from and the other way round; null for none. With
            new categories, one that knows them all, whose logits the new ones imitate.
        reading: how the logits are read, see `ReadingOptions`.
        unseen: how new categories are fitted, see `UnseenOptions`.
        regulariser: a term of the training loss that cuts or keeps dependencies, see `RegularizerOptions`.
        noise: deviation of the noise on the images of one more accuracy, images being about -1..1; 0 leaves
            it out.
        wordnet: file of hyponyms that tells how near ImageNet's categories are, or null.
        solver: `gram` (K x K moments) or `head` (many thousand categories of a linear head).
        optimizer: options of the optimizer.
        warmup_share: share of the steps in which the learning rate rises (one-cycle).
        tuner: what to attach to the backbone, from the tuner group.
    """

    site_patterns = SITE_PATTERNS

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        image_size: int,
        network: NetworkOptions,
        train_network: bool,
        source: SourceOptions | None,
        reading: ReadingOptions,
        unseen: UnseenOptions,
        regulariser: RegularizerOptions,
        noise: float,
        wordnet: str | None,
        solver: Literal["gram", "head"],
        optimizer: OptimizerOptions,
        warmup_share: float,
        tuner: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if solver not in {"gram", "head"}:
            raise ValueError(f"model.solver is {solver!r}, should be gram or head")
        if network["name"] == "run" and (train_network or "untrained" in reading["controls"]):
            raise ValueError(
                "model.network.name=run is only read: set model.train_network=false and leave untrained out of"
                " model.reading.controls"
            )
        self.network: Classifier | None = None
        self.source: Classifier | None = None
        self.untrained: Classifier | None = None
        self.regulariser: DependencyRegulariser | None = None

    @property
    def options(self) -> Options:
        """The constructor's options."""
        return cast(Options, self.hparams)

    # Networks and weights.

    @property
    def classifier(self) -> Classifier:
        """The network, once it is built."""
        assert self.network is not None
        return self.network

    @property
    def tunable(self) -> nn.Module:
        """The backbone."""
        return self.classifier.backbone

    @property
    def names_weights(self) -> bool:
        """Whether the network comes from a file."""
        return self.options["network"]["weights"] is not None

    @property
    def has_network(self) -> bool:
        """Whether there is a network, and not logits alone."""
        return bool(self.options["network"]["name"] != "logits")

    @property
    def has_training(self) -> bool:
        """Whether the network is trained before it is read."""
        return bool(self.has_network and self.options["train_network"])

    def example(self) -> tuple[Tensor]:
        """Return two images of noise."""
        return (noise_images(self.options["in_channels"], self.options["image_size"]),)

    def configure_model(self) -> None:
        """Build the network, the second one, and the untrained one that is the control."""
        if self.network is not None or not self.has_network:
            return
        self.network = self._build(self.options["network"], self.options["num_classes"])
        self.means = Means(FIGURES)
        if "untrained" in self.options["reading"]["controls"]:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.options["reading"]["seed"])
                self.untrained = self._build(self.options["network"], self.options["num_classes"])
            self.untrained.requires_grad_(False)
        source = self.options["source"]
        if source is not None:
            self.source = self._build(source, source["num_classes"])
            self.source.requires_grad_(False)

    def _build(self, options: NetworkOptions, num_classes: int) -> Classifier:
        if options["name"] == "run":
            return load_run(options["weights"], num_classes)
        return build_network(options["name"], num_classes, self.options["in_channels"], self.options["image_size"])

    def load_pretrained(self) -> None:
        """Load the weights of both networks, where the config names any."""
        for network, options in ((self.network, self.options["network"]), (self.source, self.options["source"])):
            if network is not None and options is not None and options["name"] != "run":
                load_network(network, options)

    def setup(self, stage: str) -> None:
        """Build the networks, and the regulariser from the dependencies that an earlier run has kept."""
        super().setup(stage)
        options = self.options["regulariser"]
        if stage == "fit" and options["kind"] != "none" and self.regulariser is None and not self.trainer.ckpt_path:
            self.regulariser = build_regulariser(options, self.datamodule)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the checkpoint's dependencies in the place of those that no file needs to be read for."""
        super().on_load_checkpoint(checkpoint)
        theta = checkpoint["state_dict"].get("regulariser.theta")
        if theta is not None:
            kind, momentum = self.options["regulariser"]["kind"], self.options["regulariser"]["momentum"]
            assert kind != "none"
            self.regulariser = DependencyRegulariser(theta, kind, theta != 0, momentum)

    def train(self, mode: bool = True) -> "NeuralDependency":
        """Set the mode; the networks that are only read stay in eval mode."""
        super().train(mode)
        for network in (self.source, self.untrained):
            if network is not None:
                network.eval()
        return self

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Return the logits of images."""
        return self.classifier(images)

    # Training and validation.

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Return the cross-entropy of a batch, plus the regulariser's term."""
        logits, labels = self(batch["image"]), batch["label"]
        loss = functional.cross_entropy(logits, labels)
        self.log("train/acc", 100 * (logits.argmax(1) == labels).float().mean(), batch_size=len(labels), sync_dist=True)
        if self.regulariser is not None:
            term = self.regulariser(logits)
            self.log("train/regulariser", term, batch_size=len(labels), sync_dist=True)
            loss = loss + self.options["regulariser"]["weight"] * term
        self.log("train/loss", loss, prog_bar=True, batch_size=len(labels), sync_dist=True)
        return loss

    def cost_step(self, batch: dict[str, Any]) -> None:
        """Do one step's forward and backward pass."""
        if self.has_network:
            functional.cross_entropy(self(batch["image"]), batch["label"]).backward()

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Measure accuracy, in percent, and cross-entropy."""
        logits, labels = self(batch["image"]), batch["label"]
        self.means.add("val/acc", 100 * (logits.argmax(1) == labels).float())
        self.means.add("val/loss", functional.cross_entropy(logits.float(), labels, reduction="none"))

    def on_validation_epoch_end(self) -> None:
        """Log accuracy and cross-entropy over the whole validation split."""
        self.log_dict(self.means.take("val"))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimizer, and the one-cycle schedule over its steps."""
        total, warmup_share = training_steps(self.trainer), self.options["warmup_share"]
        lr = None if self.tuner is None else self.tuner.lr
        optimizer = build_optimizer(self.trained_parameters(), self.options["optimizer"], lr=lr)
        return with_schedule(optimizer, lambda step: one_cycle(step, total, warmup_share))

    # Test: every network sees each split once; all else is read from the logits.

    def on_test_start(self) -> None:
        """Forget the logits of an earlier test."""
        self.splits = Splits(self.options["num_classes"], with_features=self.options["solver"] == "head")

    def test_step(self, batch: Mapping[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Collect logits, in float32 at least, and add them to the second moments."""
        split = self.datamodule.test_names[dataloader_idx]
        columns = {"labels": batch["label"], "index": batch["index"]}
        if not self.has_network:
            columns |= {"logits": batch["logits"].float()}
            columns |= {"source": batch["source_logits"].float()} if "source_logits" in batch else {}
        else:
            columns |= self._seen(batch["image"], split, int(batch["index"].sum()))
        self.splits.add(split, columns)

    def _seen(self, images: Tensor, split: str, seed: int) -> dict[str, Tensor]:
        features = self.classifier.forward_features(images)
        columns = {"features": features, "logits": self.classifier.classify(features)}
        if self.source is not None:
            columns["source"] = self.source(images)
        if self.untrained is not None and split in {"moments", "test"}:
            columns["untrained"] = self.untrained(images)
        if self.options["noise"] and split == "test":
            # A generator of its own: the same noise in every test, wherever the run was stopped before.
            drawn = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed)).to(images)
            columns["noisy"] = self(images + self.options["noise"] * drawn)
        return columns

    def on_test_epoch_end(self) -> None:
        """Evaluate on one process what all have collected, and log the same metrics on every process."""
        gathered = self.splits.gather()
        findings = None
        if self.trainer.is_global_zero:
            tested = Tested(
                gathered,
                is_complete=self.trainer.limit_test_batches in {None, 1.0},
                head=None if self.network is None else self.network.head,
                theta=None if self.regulariser is None else self.regulariser.theta,
                device=str(self.device),
            )
            findings = Report(self.options, self.datamodule, tested, self.run_folder).evaluate()
        self.publish_from_first(findings)
