"""UOSR: train a classifier with one of nine objectives, then score what it should refuse, on cached outputs."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric

from lightning_modules.base import BasePaper
from lightning_modules.collecting import Collector
from lightning_modules.optimisation import OptimizerOptions, build_optimizer
from lightning_modules.uosr.backbones import Backbone
from lightning_modules.uosr.confidence import (
    LearnedConfidence,
    LearnedConfidenceOptions,
    RightOrWrong,
    RightOrWrongOptions,
    TrueClassProbability,
    TrueClassProbabilityOptions,
)
from lightning_modules.uosr.few_shot import FewShotOptions
from lightning_modules.uosr.network import Network
from lightning_modules.uosr.objective import Objective, TwoStageObjective
from lightning_modules.uosr.odin import odin_score
from lightning_modules.uosr.outlier_exposure import (
    BackgroundClass,
    EnergyHinge,
    EnergyOptions,
    OutlierExposure,
    OutlierExposureOptions,
)
from lightning_modules.uosr.outputs import Outputs, save_outputs
from lightning_modules.uosr.post_hoc import PostHocOptions
from lightning_modules.uosr.proser import Placeholders, ProserOptions
from lightning_modules.uosr.schedule import ScheduleOptions, build_schedule
from lightning_modules.uosr.scoring import score_splits
from lightning_modules.uosr.table import HEADER, table_rows
from lightning_modules.uosr.unified_metrics import METRICS
from lightning_modules.uosr.vos import VirtualOutlierOptions, VirtualOutliers
from networks.small_conv_net import SITE_PATTERNS

ObjectiveName = Literal["ce", "oe", "energy", "eb", "vos", "lc", "tcp", "bce", "proser"]


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

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        image_size: int,
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
        shots: list[int],
        tuner: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network: Network | None = None
        self.collected: dict[str, Collector] = {}

    @property
    def has_unused_parameters(self) -> bool:
        """Whether a stage of the training leaves layers without a gradient, which DDP has to be told."""
        return self.hparams.objective in {"tcp", "proser", "vos"}

    @property
    def optimizer_states(self) -> int:
        """Numbers that the optimizer keeps for each parameter."""
        return 2 if self.hparams.optimizer["name"] == "adamw" else 1

    # Networks and weights.

    site_patterns = SITE_PATTERNS

    @property
    def tunable(self) -> nn.Module:
        """The backbone."""
        return self.network.backbone

    @property
    def names_weights(self) -> bool:
        """Whether the backbone comes from a file."""
        return self.hparams.backbone["weights"] is not None

    def example(self) -> tuple[Tensor]:
        """Return two empty images."""
        return (torch.zeros(2, self.hparams.in_channels, self.hparams.image_size, self.hparams.image_size),)

    def configure_model(self) -> None:
        """Build the network first and the objective's own layers after it, so that every objective starts alike."""
        if self.network is not None:
            return
        h = self.hparams
        self.network = Network(h.backbone, h.num_classes, h.in_channels, h.image_size)
        self.objective = self._build_objective(self.network.head.in_features)
        self.means = nn.ModuleDict({name: MeanMetric() for name in ("val/acc", "val/loss", "val/quality")})

    def _build_objective(self, size: int) -> Objective:
        h = self.hparams
        match h.objective:
            case "ce":
                return Objective()
            case "oe":
                return OutlierExposure(h.oe)
            case "energy":
                return EnergyHinge(h.energy)
            case "eb":
                return BackgroundClass(size)
            case "vos":
                return VirtualOutliers(size, h.num_classes, h.vos)
            case "lc":
                return LearnedConfidence(size, h.lc)
            case "tcp":
                return TrueClassProbability(size, h.tcp)
            case "bce":
                return RightOrWrong(size, h.bce)
            case "proser":
                return Placeholders(size, h.proser)
        raise ValueError(f"there is no objective '{h.objective}': take ce, oe, energy, eb, vos, lc, tcp, bce or proser")

    def load_pretrained(self) -> None:
        """Load the backbone's weights, if the config names any."""
        self.network.load_pretrained()

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
            self.network.load_state_dict({k.removeprefix(mark): v for k, v in weights.items() if k.startswith(mark)})
        if isinstance(self.objective, TwoStageObjective):
            self.objective.first_stage_done.fill_(True)
        self._given_weights = True

    # Training and validation.

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Return the objective's loss."""
        self.objective.progress = self.global_step / self.trainer.estimated_stepping_batches
        loss, correct = self.objective(self.network, batch)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["label"]), sync_dist=True)
        self.log("train/acc", correct.float().mean(), batch_size=len(correct), sync_dist=True)
        return loss

    def cost_step(self, batch: dict[str, Any]) -> None:
        """Do one step's forward and backward pass, that of the second stage where there are two."""
        self.objective.progress = float(isinstance(self.objective, TwoStageObjective))
        self.objective(self.network, batch).total.backward()

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Take accuracy, cross-entropy and what the tested weights are chosen by."""
        seen, labels = self.network(batch["image"]), batch["label"]
        self.means["val/acc"].update((seen.logits.argmax(dim=1) == labels).float())
        self.means["val/loss"].update(functional.cross_entropy(seen.logits, labels, reduction="none"))
        self.means["val/quality"].update(self.objective.quality(seen, labels))

    def on_validation_epoch_end(self) -> None:
        """Log the means over the samples of all processes, which may hold unequal shares."""
        self.log_dict({name: mean.compute() for name, mean in self.means.items()})
        for mean in self.means.values():
            mean.reset()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimizer and its schedule over the optimizer steps of the whole training."""
        total = self.trainer.estimated_stepping_batches
        if total == float("inf"):
            raise ValueError("the schedule needs an end of training: set trainer.max_epochs or trainer.max_steps")
        restart = 0
        if isinstance(self.objective, TwoStageObjective) and not self.objective.first_stage_done:
            restart = round(self.objective.ce_share * total)
        optimizer = build_optimizer(self.trained_parameters(), self.hparams.optimizer, nesterov=True)
        schedule = LambdaLR(optimizer, build_schedule(self.hparams.schedule, int(total), restart))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # Test: the network sees each split once, everything else is computed from its cached outputs.

    def on_test_start(self) -> None:
        """Forget the outputs of an earlier test."""
        self.collected = {name: Collector() for name in self.trainer.datamodule.test_names}

    def test_step(self, batch: Mapping[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Collect logits, features and what only the network can compute, in float32 whatever the training ran in."""
        data = self.trainer.datamodule
        split = data.test_names[dataloader_idx]
        columns = {"labels": batch["label"], "index": batch["index"]}
        with torch.autocast(self.device.type, enabled=False):
            seen = self.network(batch["image"])
            own = self.objective.score(seen)
            if own is not None:
                columns[self.objective.own_score] = own
            if split in {"known", *data.ood_names}:
                columns["odin"] = odin_score(lambda images: self.network(images).logits, batch["image"])
        self.collected[split].add(logits=seen.logits, features=seen.features, **columns)

    def on_test_epoch_end(self) -> None:
        """Score on one process what all have seen, write it down, and log the same metrics on every process."""
        splits = {}
        for name, collector in self.collected.items():
            columns = collector.gather()
            if columns is not None:
                main = [columns.pop(key) for key in ("logits", "features", "labels")]
                splits[name] = Outputs(*main, extra=columns)
        self.collected = {}
        metrics = self._score(splits) if self.trainer.is_global_zero else None
        self.log_dict(self.trainer.strategy.broadcast(metrics))

    def _score(self, splits: dict[str, Outputs]) -> dict[str, float]:
        """Return the metrics to log; write outputs, score files, tables and pictures."""
        for name, outputs in splits.items():
            save_outputs(self.run_folder / "outputs" / f"{name}.npz", outputs)
        head, data = self.network.head, self.trainer.datamodule
        tested = score_splits(
            splits,
            data.ood_names,
            head=(head.weight.detach().float().cpu(), head.bias.detach().float().cpu()),
            own_score=self.objective.own_score,
            post_hoc=self.hparams.post_hoc,
            few_shot=self.hparams.few_shot,
            shots=self.hparams.shots if data.reference_ood else [],
            reference_ood=data.reference_ood,
            folder=self.run_folder / "scores",
        )
        metrics = {"test/acc": 100 * splits["known"].correct().double().mean().item()}
        for ood, rows in tested.metrics.items():
            self.show_table(f"uosr_{ood}", HEADER, table_rows(rows))
            self.show_picture(f"uncertainty_{ood}", tested.pictures[ood])
            for score, of in rows.items():
                metrics |= {f"test/{ood}/{score}/{name}": of[name] for name in METRICS}
        return metrics
