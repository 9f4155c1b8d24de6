"""Rendered clips of moving discs: a few-shot protocol, and the stills that the mini-CLIP is pretrained on."""

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from datamodules.base import BaseDataModule, digest
from datamodules.episodes import EpisodeSource, EpisodicData, Ints
from datamodules.loading import Batch, mix
from datamodules.memory import Images
from datamodules.worlds import actors

_SPLITS = ("fit", "val", "test")


class _Clips(Dataset[Any]):
    """Clips in memory: uint8 [n, t, 3, h, w] and labels."""

    def __init__(self, pixels: Any, labels: Ints) -> None:
        self.pixels, self.labels = pixels, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        return {"image": torch.from_numpy(self.pixels[index]).float() / 127.5 - 1, "label": self.labels[index]}


class Actors(EpisodicData):
    """Base classes for training, and novel ones, of which validation and test have half each.

    The novel classes of validation are those of every second colour.

    Args:
        world_seed: seed of all clips; the experiment's own seed changes neither clips nor test episodes.
        image_size: side of a frame in pixels.
        frames: frames of a clip.
        train_clips: clips of each base class.
        eval_clips: clips of each novel class.
    """
