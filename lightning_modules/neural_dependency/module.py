"""Neural Dependency: train a classifier of many categories, or take one, and read what its logits say."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
from jaxtyping import Float
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional

from common.pixel_statistics import Statistics
from common.ranges import Fraction, NonNegativeFloat, NonNegativeInt, PositiveInt
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
from lightning_modules.neural_dependency.options import Options, check_categories
from lightning_modules.neural_dependency.reading import AnalysisOptions
from lightning_modules.neural_dependency.regularizer import (
    DependencyRegularizer,
    RegularizerOptions,
    build_regularizer,
)
from lightning_modules.neural_dependency.report import Report, Tested
from lightning_modules.neural_dependency.structure.wordnet import path_similarity, read_hyponyms
from lightning_modules.neural_dependency.unseen.protocol import UnseenOptions
from lightning_modules.optimization import (
    OptimizerOptions,
    build_optimizer,
    classifier_group,
    one_cycle,
    training_steps,
    with_schedule,
)
from networks.backbones import normalization
from networks.noise import BatchNoise
from networks.seeds import own_initialization
from networks.small_conv_net import SITE_PATTERNS

FIGURES = ("val/acc", "val/loss")


class NeuralDependency(BasePaper):
    """A classifier, and in its test the dependencies between its logits (§2).

    The test sees the splits "moments", which the dependencies are fitted to, and "test", which they are measured on;
    with new categories "new_fit" and "new_test" too, and splits of unknown categories.

    Args:
        num_classes: number K of categories.
        in_channels: channels of the images; 0 for batches of logits.
        image_size: side of the images in pixels; 0 for batches of logits.
        network: the classifier that is read; `logits` for batches that hold logits instead of images.
        train_network: train it first; false reads it as its weights are.
        source: a second classifier, to predict the first one's logits from and the other way round; null for none. With
            new categories, one that knows them all, whose logits the new ones imitate.
        reading: how the logits are read, see `AnalysisOptions`.
        unseen: how new categories are fitted, see `UnseenOptions`.
        regularizer: a term of the training loss that cuts or keeps dependencies, see `RegularizerOptions`.
        test_noise_std: deviation of the noise on the images of one more accuracy, images being about -1..1; 0 leaves
            it out.
        wordnet: file of hyponyms that tells how near ImageNet's categories are, or null.
        solver: `gram` (K x K moments) or `head` (many thousand categories of a linear head).
        optimizer: options of the optimizer.
        warmup_ratio: share of the steps in which the learning rate rises (one-cycle).
        tuner: what to attach to the backbone, from the tuner group.
    """

    needs: ClassVar = {"classes": "", "images": "network.name!=logits", "logits": "network.name=logits"}
    site_patterns = SITE_PATTERNS

    def __init__(
        self,
        *,
        num_classes: PositiveInt,
        in_channels: NonNegativeInt,
        image_size: NonNegativeInt,
        network: NetworkOptions,
        train_network: bool,
        source: SourceOptions | None,
        analysis: AnalysisOptions,
        unseen: UnseenOptions,
        regularizer: RegularizerOptions,
        test_noise_std: NonNegativeFloat,
        wordnet: str | None,
        solver: Literal["gram", "head"],
        optimizer: OptimizerOptions,
        warmup_ratio: Fraction,
        tuner: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if solver not in {"gram", "head"}:
            raise ValueError(f"model.solver is {solver!r}, should be gram or head")
        if network["name"] == "run" and (train_network or "untrained" in analysis["controls"]):
            raise ValueError(
                "model.network.name=run is only read: set model.train_network=false and leave untrained out of"
                " model.analysis.controls"
            )
        self.network: Classifier | None = None
        self.source: Classifier | None = None
        self.untrained: Classifier | None = None
        self.regularizer: DependencyRegularizer | None = None

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

    @property
    def normalization(self) -> Statistics | None:
        """What the network's published weights were trained with, or the network of an earlier run."""
        name = self.options["network"]["name"]
        return self.classifier.normalization if name == "run" else normalization(name, own=("small", "mlp", "logits"))

    def test_splits(self, data: Any) -> Sequence[str]:
        """Return what dependencies are fitted to and measured on, then new and unknown categories, if any."""
        return ["moments", "test", *getattr(data, "new_names", []), *getattr(data, "ood_names", [])]

    def example(self) -> tuple[Tensor]:
        """Return two images of noise."""
        return (noise_images(self.options["in_channels"], self.options["image_size"]),)

    def configure_model(self) -> None:
        """Build the network, the second one, and the untrained one that is the control."""
        if self.network is not None or not self.has_network:
            return
        self.network = self._build(self.options["network"], self.options["num_classes"])
        self.means = Means(FIGURES)
        if "untrained" in self.options["analysis"]["controls"]:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.options["analysis"]["seed"])
                self.untrained = self._build(self.options["network"], self.options["num_classes"])
            self.untrained.requires_grad_(False)
        source = self.options["source"]
        if source is not None:
            with own_initialization("source"):
                self.source = self._build(source, source["num_classes"])
            self.source.requires_grad_(False)

    def _build(self, options: NetworkOptions, num_classes: int) -> Classifier:
        if options["name"] == "run":
            return load_run(options["weights"], num_classes)
        return build_network(options["name"], num_classes, self.options["in_channels"], self.options["image_size"])

    def load_pretrained(self) -> None:
        """Load the weights of both networks, where the config names any."""
        for load in self._loads():
            load()

    def _loads(self) -> Iterator[Callable[[], None]]:
        for network, options in ((self.network, self.options["network"]), (self.source, self.options["source"])):
            if network is not None and options is not None and options["name"] != "run":
                yield partial(load_network, network, options)

    def start_checks(self, data: Any) -> Iterator[Callable[[], object]]:
        """Yield the readings of all files, and whether the categories of data and networks go together."""
        yield from self._loads()
        yield lambda: check_categories(self.options, data)
        if self.has_training and self.options["regularizer"]["kind"] != "none":
            yield lambda: build_regularizer(self.options["regularizer"], data)
        if wordnet := self.options["wordnet"]:
            yield lambda: read_hyponyms(Path(wordnet))
            yield lambda: path_similarity(data.class_names(), wordnet)

    def setup(self, stage: str) -> None:
        """Build the networks, and the regularizer from the dependencies that an earlier run has kept."""
        super().setup(stage)
        options = self.options["regularizer"]
        if stage == "fit" and options["kind"] != "none" and self.regularizer is None and not self.trainer.ckpt_path:
            self.regularizer = build_regularizer(options, self.datamodule)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the checkpoint's dependencies in the place of those that no file needs to be read for."""
        super().on_load_checkpoint(checkpoint)
        state = checkpoint["state_dict"]
        # What the first runs have kept is spelled otherwise.
        for name in [name for name in state if name.startswith("regulariser.")]:
            state[name.replace("regulariser", "regularizer", 1)] = state.pop(name)
        theta = state.get("regularizer.theta")
        if theta is not None:
            kind, momentum = self.options["regularizer"]["kind"], self.options["regularizer"]["momentum"]
            assert kind != "none"
            self.regularizer = DependencyRegularizer(theta, kind, theta != 0, momentum)

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
        """Return the cross-entropy of a batch, plus the regularizer's term."""
        logits, labels = self(batch["image"]), batch["label"]
        loss = functional.cross_entropy(logits, labels)
        self.log("train/acc", 100 * (logits.argmax(1) == labels).float().mean(), batch_size=len(labels), sync_dist=True)
        if self.regularizer is not None:
            term = self.regularizer(logits)
            self.log("train/regulariser", term, batch_size=len(labels), sync_dist=True)
            loss = loss + self.options["regularizer"]["weight"] * term
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
        total, warmup_ratio = training_steps(self.trainer), self.options["warmup_ratio"]
        lr, name = None if self.tuner is None else self.tuner.lr, classifier_group(self.tuner)
        optimizer = build_optimizer(self.trained_parameters(), self.options["optimizer"], name=name, lr=lr)
        return with_schedule(optimizer, lambda step: one_cycle(step, total, warmup_ratio))

    # Test: every network sees each split once; all else is read from the logits.

    def on_test_start(self) -> None:
        """Forget the logits of an earlier test."""
        self.splits = Splits(self.options["num_classes"], with_features=self.options["solver"] == "head")

    def test_step(self, batch: Mapping[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Collect logits, in float32 at least, and add them to the second moments."""
        split = self.test_splits(self.datamodule)[dataloader_idx]
        columns = {"labels": batch["label"], "index": batch["index"]}
        if not self.has_network:
            columns |= {"logits": batch["logits"].float()}
            columns |= {"source": batch["source_logits"].float()} if "source_logits" in batch else {}
        else:
            columns |= self._seen(batch["image"], split, self.evaluation_noise(batch))
        self.splits.add(split, columns)

    def _seen(self, images: Tensor, split: str, noise: BatchNoise) -> dict[str, Tensor]:
        features = self.classifier.forward_features(images)
        columns = {"features": features, "logits": self.classifier.classify(features)}
        if self.source is not None:
            columns["source"] = self.source(images)
        if self.untrained is not None and split in {"moments", "test"}:
            columns["untrained"] = self.untrained(images)
        if self.options["test_noise_std"] and split == "test":
            drawn = noise.normal("noisy", images.shape, device=images.device, dtype=images.dtype)
            columns["noisy"] = self(images + self.options["test_noise_std"] * drawn)
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
                theta=None if self.regularizer is None else self.regularizer.theta,
                device=str(self.device),
            )
            findings = Report(self.options, self.datamodule, tested, self.run_folder).evaluate()
        self.publish_from_first(findings)
