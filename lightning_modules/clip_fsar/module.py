"""CLIP-FSAR: an image encoder tuned on episodes, and prototypes that read the class name."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float
from pytorch_lightning.utilities import rank_zero_warn
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer

from common.pixel_statistics import Statistics
from common.ranges import PositiveInt
from lightning_modules.base import BasePaper, noise_images
from lightning_modules.clip_fsar.alignment import AlignmentOptions, build_alignment
from lightning_modules.clip_fsar.episode_data import EpisodeData, check_episodes
from lightning_modules.clip_fsar.episode_losses import episode_losses
from lightning_modules.clip_fsar.episode_prediction import EpisodeNetworks
from lightning_modules.clip_fsar.evaluation import EvaluationOptions, accuracy_findings, bank_of, evaluate
from lightning_modules.clip_fsar.modulation import ContextOptions, TemporalTransformer
from lightning_modules.clip_fsar.options import CLIPFSAROptions, check_options
from lightning_modules.clip_fsar.pictures import first_episode_pictures
from lightning_modules.clip_fsar.schedule import AdamOptions, StepSchedule, build_adam, learning_rate
from lightning_modules.clip_fsar.video_text import VideoTextOptions
from lightning_modules.collecting import Collector
from lightning_modules.optimization import with_schedule
from networks.clip.mini import MiniOptions
from networks.clip.pretrained import clip_normalization, load_clip
from networks.clip.tokenizers import tokenize
from networks.clip.towers import TowerOptions, build_clip, text_features
from networks.seeds import own_initialization


class CLIPFSAR(BasePaper):
    """Few-shot action recognition (§2).

    Args:
        image_size: side of a frame in pixels.
        frames: frames T of a clip.
        shots: labelled clips of each class in a training episode.
        towers: image encoder and text encoder.
        mini: the mini-CLIP's sizes, for `towers.name` mini.
        frozen: whether the image encoder keeps its weights.
        context: see `ContextOptions`.
        alignment: see `AlignmentOptions`.
        video_text: see `VideoTextOptions`.
        optimizer: see `AdamOptions`.
        schedule: see `StepSchedule`.
        evaluation: see `EvaluationOptions`.
        tuner: what to attach to the image encoder, from the tuner group.
    """

    needs: ClassVar = {"episodes": "", "words of the mini-CLIP": "towers.name=mini and towers.weights!=null"}
    can_be_sharded = False

    def __init__(
        self,
        *,
        image_size: PositiveInt,
        frames: PositiveInt,
        shots: PositiveInt,
        towers: TowerOptions,
        mini: MiniOptions,
        frozen: bool,
        context: ContextOptions,
        alignment: AlignmentOptions,
        video_text: VideoTextOptions,
        optimizer: AdamOptions,
        schedule: StepSchedule,
        evaluation: EvaluationOptions,
        tuner: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        check_options(self.options)
        self.visual: Any = None
        # Text features by prompt. They are kept in checkpoints, the text tower is not.
        self._names: dict[str, Tensor] = {}

    @property
    def options(self) -> CLIPFSAROptions:
        """The constructor's options."""
        return cast(CLIPFSAROptions, self.hparams)

    @property
    def _data(self) -> EpisodeData:
        return self.datamodule

    @property
    def has_training(self) -> bool:
        """Whether anything learns."""
        h = self.options
        return not h["frozen"] or h["context"]["depth"] > 0 or h["alignment"]["metric"] == "trx"

    @property
    def tunable(self) -> nn.Module:
        """The image encoder."""
        assert self.visual is not None
        return self.visual

    @property
    def names_weights(self) -> bool:
        """Whether the image encoder comes from a file."""
        return self.options["towers"]["weights"] is not None

    @property
    def normalization(self) -> Statistics | None:
        """What CLIP was trained with; the mini-CLIP takes frames in -1..1."""
        return clip_normalization(self.options["towers"]["name"])

    def example(self) -> tuple[Tensor]:
        """Return two frames of noise."""
        return (noise_images(3, self.options["image_size"]),)

    # Networks.

    def _clip(self, *, trained: bool) -> Any:
        h, towers = self.options, self.options["towers"]
        clip = build_clip(towers["name"], h["mini"], h["image_size"])
        if trained:
            assert towers["weights"] is not None
            load_clip(clip, towers["name"], towers["weights"])
        return clip

    def configure_model(self) -> None:
        """Build the image encoder, the Transformer over frames, and the alignment."""
        if self.visual is not None:
            return
        h, text = self.options, self.options["video_text"]
        self.visual = self._clip(trained=False).visual
        size = int(self.visual.output_dim)
        with own_initialization("context"):
            self.context = TemporalTransformer(size, h["context"]["depth"], h["context"]["hidden_dim"])
        with own_initialization("alignment"):
            self.alignment = build_alignment(h["alignment"], size, h["frames"])
        # Not CLIP's own scale, which is 100 (§2.3).
        self.scale = nn.Parameter(torch.tensor(float(text["scale"])), requires_grad=text["weight"] > 0)
        self.visual.requires_grad_(not h["frozen"])
        self.train(self.training)

    def load_pretrained(self) -> None:
        """Load the image encoder's weights."""
        if self.names_weights:
            self.visual.load_state_dict(self._clip(trained=True).visual.state_dict())

    def start_checks(self, data: EpisodeData) -> Iterator[Callable[[], object]]:
        """Yield the reading of the towers, and a look at names and clips of every split."""
        yield from super().start_checks(data)
        h = self.options
        for split in ("fit", "val", "test") if self.names_weights else ():
            yield partial(self._tokens, data, split)
        for split, shots in (("val", 1), ("test", max(h["evaluation"]["shots"]))):
            yield partial(check_episodes, data, split, shots, 1.0)

    def train(self, mode: bool = True) -> "CLIPFSAR":
        """Set the mode; a frozen image encoder stays in eval mode."""
        super().train(mode)
        if self.options["frozen"] and self.visual is not None:
            self.visual.eval()
        return self

    @property
    def episode_networks(self) -> EpisodeNetworks:
        """The networks that read episodes of frame features."""
        return EpisodeNetworks(self.context, self.alignment, self.scale, self.options["context"])

    def names(self, split: str) -> Float[Tensor, "c d"] | None:
        """Return the text features of a split's class names, None without weights."""
        if not self.names_weights:
            return None
        prompts = self._prompts(self._data, split)
        self._read_names(prompts)
        return torch.stack([self._names[prompt] for prompt in prompts]).to(self.scale)

    def _prompts(self, data: EpisodeData, split: str) -> list[str]:
        prompt = self.options["towers"]["prompt"]
        return [prompt.replace("{}", name) for name in data.class_names(split)]

    def _tokens(self, data: EpisodeData, split: str) -> Tensor:
        h = self.options
        return tokenize(h["towers"]["name"], h["mini"], self._prompts(data, split))

    def _read_names(self, prompts: Sequence[str]) -> None:
        h, new = self.options, [prompt for prompt in prompts if prompt not in self._names]
        if new:
            found = text_features(self._clip(trained=True), h["towers"]["name"], h["mini"], new)
            self._names |= dict(zip(new, found, strict=True))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the text features, so that the checkpoint needs no text tower for the same names."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["names"] = self._names

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the text features."""
        super().on_load_checkpoint(checkpoint)
        self._names = dict(checkpoint["names"])

    def forward(self, clips: Float[Tensor, "*b t c h w"]) -> Float[Tensor, "*b t d"]:
        """Return frame features, not normalised."""
        if not len(clips):
            # A process's share of a small last batch; ViTs of open_clip refuse it.
            return clips.new_zeros(*clips.shape[:-3], self.visual.output_dim)
        return self.visual(clips.flatten(0, -4)).unflatten(0, clips.shape[:-3])

    # Training.

    def losses(self, batch: Mapping[str, Any], base: Float[Tensor, "c d"] | None) -> dict[str, Tensor]:
        """Return the few-shot loss, the video-text loss and the accuracy of training episodes.

        Args:
            batch: clips [b, v, t, c, h, w], support first, and classes [b, n].
            base: text features of all base classes.
        """
        image, classes, weight = batch["image"], batch["class"], self.options["video_text"]["weight"]
        labeled = classes.shape[1] * self.options["shots"]
        # Encoded one after the other, as in the released code: BatchNorm sees no query beside the support.
        support, queries = (self(part) for part in image.tensor_split([labeled], dim=1))
        return episode_losses(self.episode_networks, support, queries, classes, base, with_video_text=bool(weight))

    def _loss(self, found: Mapping[str, Tensor]) -> Tensor:
        loss = found["few_shot"]
        if "video_text" in found:
            loss = loss + self.options["video_text"]["weight"] * found["video_text"]
        return loss

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Return the loss of a batch of episodes."""
        found = self.losses(batch, self.names("fit"))
        loss, count = self._loss(found), len(batch["class"])
        self.log("train/loss", loss, prog_bar=True, batch_size=count, sync_dist=True)
        self.log_dict({f"train/{name}": value for name, value in found.items()}, batch_size=count, sync_dist=True)
        return loss

    def cost_step(self, batch: dict[str, Any]) -> None:
        """Do the forward pass of a batch of episodes, with empty names, and the backward pass if anything learns."""
        # As many names as Kinetics-100 has base classes: a batch without data does not say how many there are.
        base = batch["image"].new_zeros(64, self.visual.output_dim)
        loss = self._loss(self.losses(batch, base if self.names_weights else None))
        if self.has_training:
            loss.backward()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return Adam, and its learning rate by the number of training episodes; a tuner has its own peak."""
        h, peak = self.options, self.options["optimizer"]["lr"]
        tuner_lr = None if self.tuner is None else self.tuner.lr
        optimizer = build_adam(self.named_parameters(), h["optimizer"], tuner_lr)
        each = self._data.batch_size * self.trainer.accumulate_grad_batches
        return with_schedule(optimizer, lambda step: learning_rate(step * each, peak, h["schedule"]) / peak)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Skip a step whose gradients are not finite (§2.7)."""
        # Gradients are averaged by now, so all processes leave out the same steps.
        if not torch.nn.utils.get_total_norm([p.grad for p in self.parameters() if p.grad is not None]).isfinite():
            rank_zero_warn(f"step {self.global_step}: gradients are not finite; the step is left out")
            optimizer.zero_grad(set_to_none=True)

    def on_fit_start(self) -> None:
        """Read all names, and draw an episode of each kind: what cannot be, is told before the training."""
        self._foresee("fit", "val", "test")

    def on_test_start(self) -> None:
        """Read the names, and draw an episode, before a clip is looked at."""
        self._foresee("test")

    def _foresee(self, *splits: str) -> None:
        if self.names_weights:
            self._read_names([prompt for split in splits for prompt in self._prompts(self._data, split)])
        shots, trainer = max(self.options["evaluation"]["shots"]), self.trainer
        if "val" in splits:
            check_episodes(self._data, "val", 1, trainer.limit_val_batches)
        if "test" in splits:
            check_episodes(self._data, "test", shots, trainer.limit_test_batches)

    # Evaluation: features of every clip first, episodes at the end.

    def on_validation_epoch_start(self) -> None:
        """Begin with no clips."""
        self._seen = Collector()
        self._columns: dict[str, Tensor] | None = None

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Keep the features of clips."""
        self._seen.add(frames=self(batch["image"]).float(), label=batch["label"], index=batch["index"])

    def on_validation_epoch_end(self) -> None:
        """Log the accuracy on episodes of the validation classes."""
        options = self.options["evaluation"]
        found = self._evaluate("val", 1, options["validation_episodes"])
        self.log_dict({f"val/{name}": float(values.mean()) for name, values in found.items()})

    def on_test_epoch_start(self) -> None:
        """Begin with no clips."""
        self.on_validation_epoch_start()

    def test_step(self, batch: Mapping[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Keep the features of clips."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Log accuracies and their intervals for every number of shots, and show an episode."""
        options = self.options["evaluation"]
        found = {shots: self._evaluate("test", shots, options["episodes"]) for shots in options["shots"]}
        self.publish(accuracy_findings(found))
        if self.trainer.is_global_zero:
            h, networks, names = self.options, self.episode_networks, self.names("test")
            for picture in first_episode_pictures(
                networks, self._known(), names, self._data, options["seed"], h["alignment"]
            ):
                self.show_picture(*picture)

    def _evaluate(self, split: str, shots: int, count: int) -> dict[str, Tensor]:
        options, columns, trainer = self.options["evaluation"], self._known(), self.trainer
        drawn = self._data.episodes(columns["label"].numpy(), shots, count, options["seed"])
        networks = self.episode_networks
        bank = bank_of(networks, columns["frames"].to(self.scale), self.names(split))
        return evaluate(networks, bank, drawn, options["text_weight"], (trainer.global_rank, trainer.world_size))

    def _known(self) -> dict[str, Tensor]:
        if self._columns is None:
            self._columns = self._seen.gather_everywhere()
        return self._columns
