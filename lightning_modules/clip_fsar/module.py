"""CLIP-FSAR: an image encoder tuned on episodes, and prototypes that read the class name."""

from collections.abc import Mapping
from typing import Any, TypedDict

import torch
from jaxtyping import Float
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from lightning_modules.base import BasePaper
from lightning_modules.clip_fsar.alignment import Metric, build_alignment
from lightning_modules.clip_fsar.evaluation import Bank, EvaluationOptions, accuracies, interval, look, on_device
from lightning_modules.clip_fsar.modulation import TemporalTransformer
from lightning_modules.clip_fsar.schedule import AdamOptions, StepSchedule, build_adam, learning_rate
from lightning_modules.clip_fsar.towers import (
    MiniOptions,
    TowerError,
    TowerOptions,
    build_clip,
    load_clip,
    text_features,
)
from lightning_modules.clip_fsar.video_text import video_text_logits


class ContextOptions(TypedDict):
    """The Transformer over frames (section 2.2, 4 to 6): `depth` blocks (0: none) with layers of `hidden`.

    `reads_names`: whether prototypes read the class name: the paper's modulation. `merge_before`: whether shots are
    averaged before it, else after.
    """

    depth: int
    hidden: int
    reads_names: bool
    merge_before: bool


class AlignmentOptions(TypedDict):
    """`metric`: otam, bi_mhm or trx; `smoothness` and `both_ways` are OTAM's."""

    metric: Metric
    smoothness: float
    both_ways: bool


class VideoTextOptions(TypedDict):
    """The loss between clips and the names of all base classes: its `weight`, and what its `scale` starts from."""

    weight: float
    scale: float


class CLIPFSAR(BasePaper):
    """Few-shot action recognition (section 2).

    Args:
        image_size: side of a frame in pixels.
        frames: frames T of a clip.
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

    def __init__(
        self,
        *,
        image_size: int,
        frames: int,
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
        if (context["reads_names"] or video_text["weight"]) and towers["weights"] is None:
            raise TowerError("model.towers.weights is null: to untrained towers a class name says nothing")
        if context["reads_names"] and not context["depth"]:
            raise TowerError("model.context.depth is 0: without a block no prototype can read a name")
        self.save_hyperparameters()
        self.visual: Any = None
        # Text features by prompt. They are kept in checkpoints, the text tower is not.
        self._names: dict[str, Tensor] = {}

    @property
    def has_training(self) -> bool:  # type: ignore[override]
        """Whether anything learns."""
        h = self.hparams
        return not h.frozen or h.context["depth"] > 0 or h.alignment["metric"] == "trx"

    @property
    def tunable(self) -> nn.Module:
        """The image encoder."""
        assert self.visual is not None
        return self.visual

    @property
    def names_weights(self) -> bool:
        """Whether the image encoder comes from a file."""
        return self.hparams.towers["weights"] is not None

    def example(self) -> tuple[Tensor]:
        """Return two empty frames."""
        return (torch.zeros(2, 3, self.hparams.image_size, self.hparams.image_size),)

    # Networks.

    def _clip(self, *, trained: bool) -> Any:
        h = self.hparams
        clip = build_clip(h.towers["name"], h.mini, h.image_size)
        if trained:
            load_clip(clip, h.towers["weights"])
        return clip

    def configure_model(self) -> None:
        """Build the image encoder, the Transformer over frames, and the alignment."""
        if self.visual is not None:
            return
        h = self.hparams
        self.visual = self._clip(trained=False).visual
        size = int(self.visual.output_dim)
        self.context = TemporalTransformer(size, h.context["depth"], h.context["hidden"])
        options = h.alignment
        self.alignment = build_alignment(
            options["metric"], size, h.frames, options["smoothness"], both_ways=options["both_ways"]
        )
        # Not CLIP's own scale, which is 100 (trap 6).
        self.scale = nn.Parameter(torch.tensor(float(h.video_text["scale"])), requires_grad=h.video_text["weight"] > 0)
        self.visual.requires_grad_(not h.frozen)

    def load_pretrained(self) -> None:
        """Load the image encoder's weights."""
        if self.names_weights:
            self.visual.load_state_dict(self._clip(trained=True).visual.state_dict())

    def train(self, mode: bool = True) -> "CLIPFSAR":
        """Set the mode; a frozen image encoder stays in eval mode."""
        super().train(mode)
        if self.hparams.frozen and self.visual is not None:
            self.visual.eval()
        return self

    def names(self, split: str) -> Float[Tensor, "c d"] | None:
        """Return the text features of a split's class names, None without weights."""
        h = self.hparams
        if h.towers["weights"] is None:
            return None
        prompts = [h.towers["prompt"].format(name) for name in self.trainer.datamodule.class_names(split)]
        if not set(prompts) <= self._names.keys():
            found = text_features(self._clip(trained=True), h.towers["name"], h.mini, prompts)
            self._names |= dict(zip(prompts, found, strict=True))
        return torch.stack([self._names[prompt] for prompt in prompts]).to(self.device)

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
        return self.visual(clips.flatten(0, -4)).unflatten(0, clips.shape[:-3])

    # Training.

    def losses(self, batch: Mapping[str, Any], base: Float[Tensor, "c d"] | None) -> dict[str, Tensor]:
        """Return the few-shot loss, the video-text loss and the accuracy of training episodes.

        Args:
            batch: clips [b, v, t, c, h, w], support first, and classes [b, n].
            base: text features of all base classes.
        """
        frames, classes = self(batch["image"]), batch["class"]
        ways, datamodule_shots = classes.shape[1], self._shots
        support, queries = frames.split([ways * datamodule_shots, frames.shape[1] - ways * datamodule_shots], dim=1)
        told = look(self, support.unflatten(1, (ways, -1)), queries, None if base is None else base[classes])
        truth = torch.arange(ways, device=frames.device).repeat_interleave(queries.shape[1] // ways)
        logits, truth = -told.distances.flatten(0, 1), truth.repeat(len(frames))
        found = {"few_shot": functional.cross_entropy(logits, truth), "acc": 100 * (logits.argmax(1) == truth).float().mean()}
        if base is not None and self.hparams.video_text["weight"]:
            own = torch.cat([classes.repeat_interleave(part // ways, dim=1) for part in (support.shape[1], queries.shape[1])], dim=1)
            text = video_text_logits(frames, base, self.scale)
            found["video_text"] = functional.cross_entropy(text.flatten(0, 1), own.flatten())
        return found
