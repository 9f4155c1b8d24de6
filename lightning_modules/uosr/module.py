"""UOSR: train a classifier with one of nine objectives, then score what it should refuse, on cached outputs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional

from common.findings import Findings
from common.pixel_statistics import Statistics
from common.ranges import PositiveInt
from lightning_modules.base import BasePaper, noise_images
from lightning_modules.collecting import Collector
from lightning_modules.means import Means
from lightning_modules.optimization import (
    OptimizerOptions,
    build_optimizer,
    classifier_group,
    training_steps,
    with_schedule,
)
from lightning_modules.uosr.backbones import Backbone
from lightning_modules.uosr.build_objective import build_objective
from lightning_modules.uosr.network import Network
from lightning_modules.uosr.objectives.confidence import (
    LearnedConfidenceOptions,
    RightOrWrongOptions,
    TrueClassProbabilityOptions,
)
from lightning_modules.uosr.objectives.objective import TwoStageObjective, outliers_of
from lightning_modules.uosr.objectives.outlier_exposure import WITH_OUTLIERS, EnergyOptions, OutlierExposureOptions
from lightning_modules.uosr.objectives.proser import ProserOptions
from lightning_modules.uosr.objectives.vos import VirtualOutlierOptions
from lightning_modules.uosr.options import ObjectiveName, Options
from lightning_modules.uosr.outputs import outputs_of, save_outputs
from lightning_modules.uosr.schedule import ScheduleOptions, build_schedule
from lightning_modules.uosr.scores.few_shot import FewShotOptions
from lightning_modules.uosr.scores.odin import odin_score
from lightning_modules.uosr.scores.post_hoc import PostHocOptions
from lightning_modules.uosr.scores.references import image_keys, require_disjoint
from lightning_modules.uosr.scoring import score_splits
from networks.backbones import normalization
from networks.distributed import global_mean
from networks.seeds import own_initialization
from networks.small_conv_net import SITE_PATTERNS

# The column of a test split that tells its images apart, which no output file holds.
_KEYS = "image_keys"
FIGURES = ("val/acc", "val/loss", "val/quality")


class UOSR(BasePaper):
    """Unified open-set recognition (Cen et al., ICLR 2023).

    Training batches hold `image` [b, c, h, w], `label` [b] and, for oe, energy and eb, `outlier` [o, c, h, w].

    Args:
        num_classes: number K of known classes.
        in_channels: channels of the images.
        image_size: side of the images in pixels.
        backbone: where the features come from.
        objective: what is minimised; `ce` is the SoftMax baseline that every post-hoc score is read from.
        optimizer: see `OptimizerOptions`.
        schedule: see `ScheduleOptions`.
        oe: options of outlier exposure.
        energy: options of the energy hinge.
        vos: options of virtual outlier synthesis.
        lc: options of learned confidence.
        tcp: options of true class probability.
        bce: options of the right-or-wrong branch.
        proser: options of the placeholders.
        post_hoc: constants of the post-hoc scores.
        few_shot: constants of the few-shot scores.
        shots: references per unknown class for which the few-shot scores are computed; none leaves them out.
        tuner: what to attach to the frozen backbone; by default, everything is trained.
    """

    needs: ClassVar = {"images": "", "classes": "", "unknown classes": "", "outliers": "objective=oe,energy,eb"}

    def __init__(
        self,
        *,
        num_classes: PositiveInt,
        in_channels: PositiveInt,
        image_size: PositiveInt,
        backbone: Backbone,
        objective: ObjectiveName,
        optimizer: OptimizerOptions,
        schedule: ScheduleOptions,
        oe: OutlierExposureOptions,
        energy: EnergyOptions,
        vos: VirtualOutlierOptions,
        lc: LearnedConfidenceOptions,
        tcp: TrueClassProbabilityOptions,
        bce: RightOrWrongOptions,
        proser: ProserOptions,
        post_hoc: PostHocOptions,
        few_shot: FewShotOptions,
        shots: list[PositiveInt],
        tuner: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network: Network | None = None
        self.collected: dict[str, Collector] = {}

    @property
    def options(self) -> Options:
        """The constructor's options."""
        return cast(Options, self.hparams)

    @property
    def has_unused_parameters(self) -> bool:
        """Whether a stage of the training leaves layers without a gradient, which DDP has to be told."""
        return self.options["objective"] in {"tcp", "proser", "vos"}

    @property
    def optimizer_states(self) -> int:
        """Numbers that the optimizer keeps for each parameter."""
        return 2 if self.options["optimizer"]["name"] == "adamw" else 1

    # Networks and weights.

    site_patterns = SITE_PATTERNS

    @property
    def classifier(self) -> Network:
        """The network, once it is built."""
        assert self.network is not None
        return self.network

    @property
    def tunable(self) -> nn.Module:
        """The backbone."""
        return self.classifier.backbone

    @property
    def names_weights(self) -> bool:
        """Whether the backbone comes from a file."""
        return self.options["backbone"]["weights"] is not None

    @property
    def normalization(self) -> Statistics | None:
        """What the backbone's published weights were trained with."""
        return normalization(self.options["backbone"]["name"], own=("small",))

    def test_splits(self, data: Any) -> Sequence[str]:
        """Return all splits: known, unknown, and those that scores are fitted to."""
        return data.test_names

    def example(self) -> tuple[Tensor]:
        """Return two images of noise."""
        return (noise_images(self.options["in_channels"], self.options["image_size"]),)

    def configure_model(self) -> None:
        """Build the network and the objective's own layers."""
        if self.network is not None:
            return
        backbone, num_classes = self.options["backbone"], self.options["num_classes"]
        self.network = Network(backbone, num_classes, self.options["in_channels"], self.options["image_size"])
        with own_initialization("objective"):
            self.objective = build_objective(self.options, self.network.head.in_features)
        self.means = Means(FIGURES)

    def load_pretrained(self) -> None:
        """Load the backbone's weights, if the config names any."""
        self.classifier.load_pretrained()

    def start_checks(self, data: Any) -> Iterator[Callable[[], object]]:
        """Yield the reading of the backbone's weights, and the search for outliers if the objective needs them."""
        yield from super().start_checks(data)
        if self.options["objective"] in WITH_OUTLIERS:
            yield lambda: outliers_of(data.fake_batch(1), self.options["objective"])

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Start from a classifier trained with any objective; only the objective's own layers may be new.

        Raises:
            RuntimeError: if the weights are those of another network.
        """
        own = {key for key in weights if key.startswith("objective.")}
        if own == {f"objective.{key}" for key in self.objective.state_dict()}:
            self.load_state_dict(weights)
        else:
            mark = "network."
            network = {k.removeprefix(mark): v for k, v in weights.items() if k.startswith(mark)}
            self.classifier.load_state_dict(network)
        if isinstance(self.objective, TwoStageObjective):
            self.objective.first_stage_done.fill_(True)
        self._given_weights = True

    # Training and validation.

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Return the objective's loss."""
        self.objective.progress = self.global_step / self.trainer.estimated_stepping_batches
        self.objective.noise = self.noise
        loss, correct = self.objective(self.classifier, batch)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["label"]), sync_dist=True)
        # Processes may have unequal parts of the images that count.
        self.log("train/acc", 100 * global_mean(correct.float()), batch_size=len(correct))
        return loss

    def cost_step(self, batch: dict[str, Any]) -> None:
        """Do one step's forward and backward pass, that of the second stage where there are two."""
        self.objective.progress = float(isinstance(self.objective, TwoStageObjective))
        self.objective(self.classifier, batch).total.backward()

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Take accuracy, cross-entropy and what the tested weights are chosen by."""
        seen, labels = self.classifier(batch["image"]), batch["label"]
        self.means.add("val/acc", 100 * (seen.logits.argmax(dim=1) == labels).float())
        self.means.add("val/loss", functional.cross_entropy(seen.logits, labels, reduction="none"))
        self.means.add("val/quality", self.objective.quality(seen, labels))

    def on_validation_epoch_end(self) -> None:
        """Log the means over the whole validation split."""
        self.log_dict(self.means.take("val"))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimizer and its schedule over the optimizer steps of the whole training."""
        total, restart = training_steps(self.trainer), 0
        if isinstance(self.objective, TwoStageObjective) and not self.objective.first_stage_done:
            restart = round(self.objective.ce_fraction * total)
        name = classifier_group(self.tuner)
        optimizer = build_optimizer(self.trained_parameters(), self.options["optimizer"], name=name, nesterov=True)
        return with_schedule(optimizer, build_schedule(self.options["schedule"], total, restart))

    # Test: the network sees each split once, everything else is computed from its cached outputs.

    def on_test_start(self) -> None:
        """Forget the outputs of an earlier test."""
        self.collected = {name: Collector() for name in self.datamodule.test_names}

    def test_step(self, batch: Mapping[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Collect logits, features and what only the network can compute, in float32 whatever the training ran in."""
        data = self.datamodule
        split = data.test_names[dataloader_idx]
        columns = {"labels": batch["label"], "index": batch["index"]}
        with torch.autocast(self.device.type, enabled=False):
            seen = self.classifier(batch["image"])
            own = self.objective.score(seen)
            if own is not None:
                columns[self.objective.own_score] = own
            if split in {"known", *data.ood_names}:
                columns["odin"] = odin_score(lambda images: self.classifier(images).logits, batch["image"])
        if data.reference_ood and split in {data.reference_ood, "references"}:
            columns[_KEYS] = image_keys(batch["image"])
        self.collected[split].add(logits=seen.logits, features=seen.features, **columns)

    def on_test_epoch_end(self) -> None:
        """Score on one process what all have collected, and log the same metrics on every process."""
        gathered = {name: collector.gather() for name, collector in self.collected.items()}
        self.collected = {}
        splits = {name: columns for name, columns in gathered.items() if columns is not None}
        self.publish_from_first(self._score(splits) if self.trainer.is_global_zero else None)

    def _score(self, splits: dict[str, dict[str, Tensor]]) -> Findings:
        """Return metrics, tables and pictures; write outputs and score files.

        Raises:
            UserError: if few-shot references are tested too.
        """
        data, head = self.datamodule, self.classifier.head
        keys = {name: columns.pop(_KEYS) for name, columns in splits.items() if _KEYS in columns}
        if len(keys) == 2:
            require_disjoint(keys[data.reference_ood], keys["references"], data.reference_ood)
        outputs = {name: outputs_of(columns) for name, columns in splits.items()}
        for name, of_split in outputs.items():
            save_outputs(self.run_folder / "outputs" / f"{name}.npz", of_split)
        return score_splits(
            outputs,
            data.ood_names,
            head=(head.weight.detach().float().cpu(), head.bias.detach().float().cpu()),
            own_score=self.objective.own_score,
            post_hoc=self.options["post_hoc"],
            few_shot=self.options["few_shot"],
            shots=self.options["shots"] if data.reference_ood else [],
            reference_ood=data.reference_ood,
            folder=self.run_folder / "scores",
        )
