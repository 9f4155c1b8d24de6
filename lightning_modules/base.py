"""What every paper's LightningModule shares: weights, tuners, and tables and pictures that reach every logger."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, TypedDict

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from common.errors import UserError
from common.findings import Findings, PictureLogger, TableLogger
from common.pixel_statistics import Statistics
from common.ranges import NonNegativeInt, PositiveInt, Ranged
from common.renamed_keys import with_present_names
from common.targets import build_target
from networks.dropout import PositionedDropout, positioned_dropouts
from networks.noise import BatchNoise
from networks.seeds import own_initialization
from tuners.tuner import Tuner


class SampleOptions(TypedDict):
    """What `mode=sample` may ask of every model that makes images."""

    count: PositiveInt
    """Number of images."""
    seed: NonNegativeInt | None
    """Seed of all noise; null: the run's."""


def noise_images(channels: int, side: int) -> Tensor:
    """Return two images of noise [2, c, h, w]: unlike empty ones, they pass every layer; no other draw is moved."""
    images = torch.empty(2, channels, side, side)
    return images if images.is_meta else images.normal_(generator=torch.Generator().manual_seed(0))


class BasePaper(Ranged, pl.LightningModule):
    """Base of the papers; constructors take plain values only, networks are built in `configure_model`.

    A run takes its first weights from one place: a checkpoint to go on from, weights named by `ckpt=PATH`
    (`start_from`), or else what the paper's config names (`load_pretrained`). Then the tuner that the config names
    (hyper-parameter `tuner`, if any) is attached to the part that the paper calls `tunable`.
    """

    # What batches and splits of the data must hold, each under a condition on the options (harness/config/data_fit.py).
    needs: ClassVar[Mapping[str, str]]
    config_key = "model"
    # Whether weights are read in steps and tests alone, when sharded ones (FSDP) are whole.
    can_be_sharded = True
    # Full-match regular expressions of module names by op, for a tunable part of no family that tuners know.
    site_patterns: Mapping[str, str] = {}
    _given_weights = False
    _leaves_out = False
    _gradients_seen = False
    _dropouts: Sequence[PositionedDropout] = ()
    run_seed = 0
    """The run's seed, as the harness knows it."""

    def __init__(self) -> None:
        super().__init__()
        self.tuner: Tuner | None = None

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, map_location: Any = None, **kwargs: Any) -> Self:  # type: ignore[override]
        """Return the module of a checkpoint, with its weights, as Lightning does.

        Args:
            checkpoint_path: the file; its hyper-parameters may have the names that they were first published under.
            map_location: see `torch.load`.
            kwargs: `strict` and `weights_only` as Lightning takes them, and hyper-parameters in place of the
                checkpoint's.
        """
        content = torch.load(checkpoint_path, map_location="cpu", weights_only=True, mmap=True)
        options = content.get(cls.CHECKPOINT_HYPER_PARAMS_KEY, {})
        present = with_present_names(options, f"{cls.__module__}.{cls.__qualname__}")
        return super().load_from_checkpoint(checkpoint_path, map_location, **(present | kwargs))

    @property
    def has_training(self) -> bool:
        """Whether there is anything to train; if not, a run is a test."""
        return True

    @property
    def has_unused_parameters(self) -> bool:
        """Whether a step may leave trainable parameters without a gradient, which DDP has to be told."""
        return False

    @property
    def optimizer_states(self) -> int:
        """Numbers that the optimizer keeps for each trained parameter, for estimates of memory: 2 for Adam."""
        return 2

    @property
    def names_weights(self) -> bool:
        """Whether `load_pretrained` loads weights that a file names, so that checkpoints of a tuner can omit them."""
        return False

    @property
    def normalization(self) -> Statistics | None:
        """Mean and deviation by channel, of images in 0..1, that the backbone was trained with; None for -1..1."""
        return None

    def test_splits(self, data: Any) -> Sequence[str]:
        """Return the splits of the data that this module tests on, in the order of `dataloader_idx`."""
        return ["test"]

    @property
    def datamodule(self) -> Any:
        """The DataModule of the run that this module is in."""
        trainer: Any = self.trainer
        return trainer.datamodule

    @property
    def tunable(self) -> nn.Module:
        """The network that a tuner freezes and is attached to; heads and the like are not part of it.

        Raises:
            UserError: if the paper has no such part.
        """
        raise UserError(f"{type(self).__name__} has no part that a tuner could be attached to: take tuner=none")

    def example(self) -> tuple[Tensor, ...]:
        """Return inputs of one forward pass of the tunable part, noise if images, for a tuner to probe it with."""
        raise NotImplementedError

    def load_pretrained(self) -> None:
        """Load the pre-trained weights that the config names; called once, before a training that starts anew."""

    def start_checks(self, data: Any) -> Iterator[Callable[[], object]]:
        """Yield what has to go well before the first batch, each a call that raises UserError if it does not.

        `mode=check` makes all calls and tells all errors. The networks are built and on the meta device then, where a
        file of weights is read and compared, but nothing is copied. A paper yields a call for every file that a run of
        it reads and for all that it needs of its data, so that none hides another.

        Args:
            data: the DataModule; where it needs files that are missing, errors of the system are not told again.
        """
        yield self.load_pretrained

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Start from a checkpoint's weights instead of pre-trained ones; call `configure_model` first.

        Raises:
            RuntimeError: if the weights are not those of this network.
        """
        self.load_state_dict(weights)
        self._given_weights = True

    def setup(self, stage: str) -> None:
        """Build the networks, load what training starts from, and attach the tuner."""
        # A test of networks that nothing was trained of starts, too, and from no checkpoint.
        starts = not self.trainer.ckpt_path and (stage == "fit" or not self.has_training)
        self.prepare(load=(starts and not self._given_weights) or (self.names_weights and self._has_tuner()))

    def prepare(self, *, load: bool) -> None:
        """Build the networks and attach the tuner, once.

        Args:
            load: whether the weights that the config names are loaded in between.
        """
        if self.tuner is None:
            self.configure_model()
            if load:
                self.load_pretrained()
            self.attach_tuner()
        self._dropouts = positioned_dropouts(self)

    def _has_tuner(self) -> bool:
        return bool((self.hparams.get("tuner") or {}).get("_target_"))

    def attach_tuner(self) -> None:
        """Attach the tuner that the config names, if any; everything outside the tunable part stays trained."""
        if self.tuner is None and self._has_tuner():
            tuner = build_target(self.hparams["tuner"], "tuner")
            with own_initialization("tuner"):
                tuner.attach(self.tunable, *self.example(), patterns=self.site_patterns)
            self.tuner = tuner
            if not (self.names_weights or self._given_weights or tuner.trains_backbone or self._trainer is None):
                self.print("the frozen backbone under the tuner is untrained, as the config names no weights for it")
            self._leaves_out = self.names_weights and not self._given_weights and not tuner.trains_backbone

    def trained_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that an optimizer has to move."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    # Noise by the position in the global batch.

    @property
    def noise(self) -> BatchNoise:
        """The noise of the training batch at hand, of the config's seed if the paper has one, else of the run's."""
        batches = 0 if self._trainer is None else self.trainer.fit_loop.total_batch_idx
        return BatchNoise(self.hparams.get("seed", self.run_seed), batches)

    def evaluation_noise(self, batch: Mapping[str, Any]) -> BatchNoise:
        """Return the noise of a batch of an evaluation, which depends on the indices of its samples alone."""
        return BatchNoise(self.hparams.get("seed", self.run_seed), 0, batch["index"].tolist(), "evaluation/")

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Give the batch's noise to every dropout."""
        for dropout in self._dropouts:
            dropout.begin(self.noise)

    def train(self, mode: bool = True) -> "BasePaper":
        """Set the mode; the backbone under a tuner stays in eval mode."""
        super().train(mode)
        if self.tuner is not None:
            self.tuner.hold()
        return self

    def on_after_backward(self) -> None:
        """After the first step, refuse a tuner that is cut off from the loss.

        Raises:
            UserError: naming the parameters without a gradient.
        """
        if self.tuner is not None and not self._gradients_seen:
            self._gradients_seen = True
            trained = dict(self.tuner.named_parameters()) | self.tuner.trained_in_backbone()
            # A process that has no part of a sharded parameter has none of its gradient.
            lost = [name for name, p in trained.items() if p.requires_grad and p.numel() and p.grad is None]
            if lost:
                raise UserError(f"tuner: no gradient reaches {', '.join(lost[:3])}: it changes nothing of the output")

    # Checkpoints of a tuner hold tuner and head; a backbone that comes from a file is named by its hash.

    def _frozen_keys(self) -> list[str]:
        backbone = self.tunable
        place = next(name for name, module in self.named_modules() if module is backbone)
        trained = {name for name, p in backbone.named_parameters() if p.requires_grad}
        return [f"{place}.{name}" for name in backbone.state_dict() if name not in trained]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out the frozen backbone, if a file has it."""
        if self.tuner is not None:
            known = self.tuner.backbone_hash
            checkpoint["tuner"] = {"backbone": known, "left_out": self._leaves_out}
            for key in self._frozen_keys() if self._leaves_out else []:
                # Of sharded weights, only the first process gathers those that are saved.
                checkpoint["state_dict"].pop(key, None)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Build what the checkpoint's tensors go into; put the backbone in that it leaves out.

        Raises:
            UserError: if there is no tuner here, or the backbone is not the one that the tuner was trained on.
        """
        about = checkpoint.get("tuner")
        if about is None:
            return
        self.prepare(load=about["left_out"])
        if self.tuner is None:
            raise UserError("the checkpoint was made with a tuner, and none is here: give tuner=NAME as it was then")
        self._leaves_out = about["left_out"]
        if about["left_out"]:
            self.tuner.require_backbone(about["backbone"])
            own = self.state_dict()
            checkpoint["state_dict"] |= {key: own[key] for key in self._frozen_keys()}
        self.tuner.backbone_hash = about["backbone"]

    def generate(self, options: Any) -> Iterator[Tensor]:
        """Yield generated images float [b, c, h, w] in -1..1, a batch at a time: what `mode=sample` writes.

        A paper that makes images declares what may be asked as `sample_options`, a TypedDict derived from
        `SampleOptions` with its defaults as plain values.

        Args:
            options: the declared options.

        Raises:
            UserError: if the model makes no images, or not with these options.
        """
        raise UserError(f"{type(self).__name__} makes no images")

    def meshes(self, options: Any) -> Iterator[tuple[Any, Any, Any]]:
        """Yield vertices [n, 3], triangles [m, 3] and colors [n, 3] of generated surfaces, if an option `mesh` is true.

        Args:
            options: as for `generate`, whose images show the same objects.

        Raises:
            UserError: if the model has no surfaces.
        """
        raise UserError(f"{type(self).__name__} makes no meshes")

    def cost_step(self, batch: dict[str, Any]) -> None:
        """Do one training step's forward and backward pass without a trainer, to count what it costs."""
        loss: Any = self.training_step(batch, 0)
        (loss["loss"] if isinstance(loss, dict) else loss).backward()

    def show_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Hand a table to every logger that keeps tables (the run folder's always does)."""
        if self.trainer.is_global_zero:
            for logger in self.loggers:
                if isinstance(logger, TableLogger):
                    logger.log_table(key=name, columns=list(columns), data=[list(row) for row in rows])

    def show_picture(self, name: str, image: Any, caption: str = "") -> None:
        """Hand a picture (PIL image, matplotlib figure, uint8 [h, w, 3]) to every logger that keeps pictures."""
        if self.trainer.is_global_zero:
            for logger in self.loggers:
                if isinstance(logger, PictureLogger):
                    logger.log_image(key=name, images=[image], caption=[caption])

    def publish(self, findings: Findings, **options: Any) -> None:
        """Log the metrics of an evaluation, and hand its tables and pictures to the loggers that keep them.

        Args:
            findings: the results; metrics are named with their stage, `test/acc`.
            options: of `log_dict`, such as `sync_dist` or `batch_size`.
        """
        if findings.metrics:
            self.log_dict(findings.metrics, **options)
        for name, table in findings.tables.items():
            self.show_table(name, table.columns, table.rows)
        for name, picture in findings.pictures.items():
            self.show_picture(name, picture, findings.captions.get(name, ""))

    def publish_from_first(self, findings: Findings | None) -> None:
        """Publish what the first process found; its metrics are logged on every process, as `log_dict` needs.

        Args:
            findings: what was found; None on all processes but the first.
        """
        own = findings or Findings()
        metrics = self.trainer.strategy.broadcast(own.metrics)
        self.publish(Findings(metrics, own.tables, own.pictures, own.captions))

    @property
    def run_folder(self) -> Path:
        """The folder of this run, where files that are neither table nor picture go."""
        return Path(self.trainer.default_root_dir)
