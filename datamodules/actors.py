"""Rendered clips of moving discs: a few-shot protocol, and the stills that the mini-CLIP is pretrained on."""

from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch.utils.data import Dataset

from common.ranges import NonNegativeInt, PositiveInt, Range
from datamodules.base import BaseDataModule, digest
from datamodules.episodes import EpisodeSampler, EpisodeSource, EpisodicData, Ints
from datamodules.loading import Batch, mix
from datamodules.memory import Images
from datamodules.worlds import actors

_SPLITS = ("fit", "val", "test")


class Clips(Dataset[Any]):
    """Clips in memory: uint8 [n, t, 3, h, w] and labels."""

    def __init__(self, pixels: Any, labels: Ints) -> None:
        self.pixels, self.labels = pixels, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        return {"image": torch.from_numpy(self.pixels[index]).float() / 127.5 - 1, "label": self.labels[index]}


class Actors(EpisodicData):
    """Clips of three, one and two of the six motions of every colour, for training, validation and test.

    Args:
        batch_size: the GLOBAL number of episodes of a step.
        num_workers: loader processes of each rank; clips are in memory, so 0 is fastest.
        seed: seed of the training episodes.
        ways: classes of an episode.
        shots: labelled clips of each class in training.
        queries: other clips of each class in training.
        train_episodes: episodes of an epoch.
        eval_batch_size: the GLOBAL number of clips of a batch of evaluation.
        world_seed: seed of all clips.
        image_size: side of a frame in pixels.
        frames: frames of a clip.
        train_clips: clips of each class of training.
        eval_clips: clips of each class of validation and test.
    """

    offers: ClassVar = {"episodes": "", "words of the mini-CLIP": ""}

    def __init__(
        self,
        *,
        batch_size: PositiveInt = 1,
        num_workers: NonNegativeInt = 0,
        seed: NonNegativeInt = 0,
        ways: Annotated[int, Range(low=2)] = 5,
        shots: PositiveInt = 1,
        queries: PositiveInt = 5,
        train_episodes: PositiveInt = 100,
        eval_batch_size: PositiveInt = 64,
        world_seed: NonNegativeInt = 0,
        image_size: Annotated[int, Range(low=16)] = 32,
        frames: Annotated[int, Range(low=2)] = 8,
        train_clips: PositiveInt = 100,
        eval_clips: PositiveInt = 60,
    ) -> None:
        episodes = {"ways": ways, "shots": shots, "queries": queries, "train_episodes": train_episodes}
        super().__init__(
            batch_size=batch_size, num_workers=num_workers, seed=seed, eval_batch_size=eval_batch_size, **episodes
        )
        self.world_seed, self.frames, self.image_shape = world_seed, frames, (3, image_size, image_size)
        self.clips = {"fit": train_clips, "val": eval_clips, "test": eval_clips}
        self._drawn: dict[str, Clips] = {}

    def class_names(self, split: str) -> list[str]:
        """Return names such as "red disc moving right"."""
        return [actors.NAMES[number] for number in actors.classes_of(split)]

    def labels(self, split: str) -> Ints:
        """Return labels in turn, all classes and again, so that any first part has all of them."""
        count = len(actors.classes_of(split))
        return np.arange(self.clips[split] * count) % count

    def _render(self, split: str, count: int | None = None) -> Any:
        classes = np.array(actors.classes_of(split))[self.labels(split)][:count]
        return actors.render(
            classes, mix(self.world_seed, _SPLITS.index(split)), self.image_shape[1], frames=self.frames
        )

    def _held(self, split: str) -> Clips:
        if split not in self._drawn:
            self._drawn[split] = Clips(self._render(split), self.labels(split))
        return self._drawn[split]

    def source(self, name: str) -> Dataset[Any]:
        """Return episodes ("fit") or clips ("val", "test")."""
        clips = self._held(name)
        if name != "fit":
            return clips
        sampler = EpisodeSampler(clips.labels, self.ways, self.shots, self.queries)
        return EpisodeSource(clips, clips, sampler, self.train_episodes)

    def fingerprint(self) -> str:
        """Return a hash of the sizes and of a few clips of every split."""
        few = {split: self._render(split, 2).tobytes().hex() for split in _SPLITS}
        return digest("actors", self.world_seed, self.image_shape, self.frames, self.clips, few)


class ActorStills(BaseDataModule):
    """Single frames of clips of the base classes, each with its class name for a caption; half have no distractor.

    Args:
        batch_size: the GLOBAL batch.
        num_workers: loader processes of each rank; stills are in memory, so 0 is fastest.
        seed: seed of the order.
        world_seed: seed of the stills.
        image_size: side in pixels.
        train_size: stills to learn from.
        eval_size: stills of each of validation and test, of the same classes.
    """

    offers: ClassVar = {"images": "", "color images": "", "classes": "", "captions": ""}

    def __init__(
        self,
        *,
        batch_size: PositiveInt = 64,
        num_workers: NonNegativeInt = 0,
        seed: NonNegativeInt = 0,
        world_seed: NonNegativeInt = 1000,
        image_size: Annotated[int, Range(low=16)] = 32,
        train_size: PositiveInt = 6000,
        eval_size: PositiveInt = 960,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        self.world_seed, self.image_shape = world_seed, (3, image_size, image_size)
        self.sizes = {"fit": train_size, "val": eval_size, "test": eval_size}
        self.test_names = ["test"]
        self._drawn: dict[str, Images] = {}

    def class_names(self, split: str = "fit") -> list[str]:
        """Return the names of the base classes, which are the captions of every split."""
        return [actors.NAMES[number] for number in actors.classes_of("fit")]

    def _render(self, split: str, count: int) -> Images:
        base, seed = np.array(actors.classes_of("fit")), mix(self.world_seed, _SPLITS.index(split))
        labels = np.arange(count) % len(base)
        clips = actors.render(base[labels], seed, self.image_shape[1], alone_share=0.5)
        frame = np.random.default_rng(seed).integers(0, clips.shape[1], count)
        return Images(clips[np.arange(count), frame], labels)

    def source(self, name: str) -> Images:
        """Return "fit", "val" or "test"."""
        if name not in self._drawn:
            self._drawn[name] = self._render(name, self.sizes[name])
        return self._drawn[name]

    def fingerprint(self) -> str:
        """Return a hash of the sizes and of a few stills of every split."""
        few = {split: self._render(split, 4).pixels.tobytes().hex() for split in _SPLITS}
        return digest("actor stills", self.world_seed, self.image_shape, self.sizes, few)
