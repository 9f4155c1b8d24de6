"""Rendered scenes with captions that text-to-image models are trained on, and the few pictures of one subject."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from common.errors import UserError
from common.ranges import NonNegativeInt, PositiveInt, Range
from datamodules.base import BaseDataModule, digest
from datamodules.loading import Batch, mix
from datamodules.memory import Images
from datamodules.worlds import subjects

_SPLITS = ("fit", "val", "test")
SlotSize = Annotated[int, Range(low=16)]


class _Captioned(Images):
    """Pictures with what is in them, and their captions in parts."""

    def __init__(
        self, pixels: NDArray[np.uint8], scenes: subjects.Scenes, captions: Sequence[subjects.Caption]
    ) -> None:
        super().__init__(pixels, scenes.objects[:, 0, 0])
        self.scenes, self.captions = scenes, captions

    def fetch(self, indices: Sequence[int]) -> Batch:
        """Return images, the labels of the first object and of the background int64 [b, 4], and captions in parts."""
        chosen = list(indices)
        objects, backgrounds = self.scenes.objects[chosen], self.scenes.backgrounds[chosen]
        labels = np.concatenate([objects[:, 0], backgrounds[:, None]], axis=1)
        captions = [self.captions[index] for index in chosen]
        return super().fetch(chosen) | {
            "labels": torch.from_numpy(labels),
            "phrases": [caption.phrases for caption in captions],
            "ending": [caption.ending for caption in captions],
        }


class SubjectScenes(BaseDataModule):
    """Pictures of one to four objects side by side, drawn with captions; each split has a seed of its own.

    Args:
        batch_size: the GLOBAL batch.
        num_workers: loader processes of each rank; the images are in memory, so 0 is fastest.
        seed: seed of the sample order.
        world_seed: seed of pictures and captions.
        channels: always 3.
        image_size: side of an object's slot, the height of a picture, in pixels.
        slots: objects in a picture, whose width is `slots` times `image_size`.
        train_size: training pictures.
        val_size: validation pictures.
        test_size: test pictures.

    """

    offers: ClassVar = {"images": "slots=1", "color images": "slots=1", "attributes": "", "scene captions": "slots=4"}

    def __init__(
        self,
        *,
        batch_size: PositiveInt = 96,
        num_workers: NonNegativeInt = 0,
        seed: int = 0,
        world_seed: int = 0,
        channels: Literal[3] = 3,
        image_size: SlotSize = 16,
        slots: Literal[1, 2, 3, 4] = 4,
        train_size: PositiveInt = 20000,
        val_size: PositiveInt = 512,
        test_size: PositiveInt = 1000,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        self.world_seed, self.slots = world_seed, slots
        self.image_shape = (channels, image_size, slots * image_size)
        self.sizes = dict(zip(_SPLITS, (train_size, val_size, test_size), strict=True))
        self.test_names = ["test"]
        self._drawn: dict[str, _Captioned] = {}

    def _render(self, name: str, count: int) -> _Captioned:
        seed = mix(self.world_seed, _SPLITS.index(name))
        rng = np.random.default_rng(seed)
        scenes = subjects.draw_scenes(count, rng)
        scenes = subjects.Scenes(scenes.objects[:, : self.slots], scenes.backgrounds)
        pixels = subjects.canvas(subjects.render(scenes, seed, self.image_shape[1]), self.slots)
        captions = [subjects.caption(objects, ground, rng) for objects, ground in zip(*scenes, strict=True)]
        return _Captioned(pixels, scenes, captions)

    def source(self, name: str) -> _Captioned:
        """Return "fit", "val" or "test"."""
        if name not in self._drawn:
            self._drawn[name] = self._render(name, self.sizes[name])
        return self._drawn[name]

    def fake_batch(self, size: int) -> dict[str, Any]:
        """Return a batch of empty pictures."""
        captions = {"phrases": [["thing"] * self.slots] * size, "ending": [""] * size}
        return super().fake_batch(size) | captions | {"labels": torch.zeros(size, 4, dtype=torch.int64)}

    def fingerprint(self) -> str:
        """Return a hash of the sizes and of a few pictures of every split."""
        few = {name: self._render(name, 2).pixels.tobytes().hex() for name in _SPLITS}
        return digest("subject_scenes", self.world_seed, self.image_shape, self.sizes, few)


class Subject(NamedTuple):
    """A subject: the caption of its pictures, that of its class's, and class, outer and inner color."""

    prompt: str
    class_prompt: str
    attributes: tuple[int, int, int]


def _subject(letter: str, seed: int) -> Subject:
    attributes = subjects.subject(letter, seed)
    name, kind = subjects.IDENTIFIERS[subjects.LETTERS.index(letter)], subjects.CLASSES[attributes[0]]
    return Subject(f"{name} {kind}", kind, attributes)


def _subject_pixels(letter: str, seed: int, split: str, count: int, side: int) -> NDArray[np.uint8]:
    """Return pictures of a subject on each background about as often."""
    own = mix(seed, ord(letter), ("fit", "val").index(split))
    objects = np.broadcast_to(np.array(subjects.subject(letter, seed)), (count, 1, 3))
    backgrounds = np.random.default_rng(own).permutation(np.arange(count) % len(subjects.BACKGROUNDS))
    return subjects.render(subjects.Scenes(objects, backgrounds), own, side)[:, 0]


class SubjectPictures(BaseDataModule):
    """A few pictures of one subject on varied backgrounds: what a text-to-image model is to learn it from.

    The training set is the pictures over and over, `iterations` batches of them.

    Args:
        batch_size: the GLOBAL number of subject pictures of a step.
        num_workers: loader processes of each rank; the images are in memory, so 0 is fastest.
        seed: seed of the order.
        subject: which of the six subjects of `subject_seed`.
        subject_seed: seed of the subjects.
        pictures: how many pictures there are of it.
        held_out: how many more pictures there are to choose by.
        iterations: batches of the training.
        channels: always 3.
        image_size: side of a picture in pixels.
    """

    offers: ClassVar = {"images": "", "color images": "", "subject": ""}

    def __init__(
        self,
        *,
        batch_size: PositiveInt = 24,
        num_workers: NonNegativeInt = 0,
        seed: int = 0,
        subject: Literal["A", "B", "C", "D", "E", "F"] = "A",
        subject_seed: int = 0,
        pictures: PositiveInt = 5,
        held_out: PositiveInt = 16,
        iterations: PositiveInt = 150,
        channels: Literal[3] = 3,
        image_size: SlotSize = 16,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        self.image_shape = (channels, image_size, image_size)
        self.subject, self.subject_seed, self.iterations = subject, subject_seed, iterations
        self.sizes = {"fit": pictures, "val": held_out}
        self.test_names = ["test"]

    @property
    def subjects(self) -> list[Subject]:
        """The subject."""
        return [_subject(self.subject, self.subject_seed)]

    @property
    def attributes(self) -> tuple[int, int, int]:
        """Class, outer and inner color of the subject."""
        return self.subjects[0].attributes

    @property
    def identifier(self) -> str:
        """The word that is to stand for the subject."""
        return self.instance_prompt.split()[0]

    @property
    def instance_prompt(self) -> str:
        """The caption of the subject's pictures."""
        return self.subjects[0].prompt

    @property
    def class_prompt(self) -> str:
        """The caption of pictures of the subject's class."""
        return self.subjects[0].class_prompt

    def _pixels(self, name: str) -> NDArray[np.uint8]:
        return _subject_pixels(self.subject, self.subject_seed, name, self.sizes[name], self.image_shape[1])

    def source(self, name: str) -> Images:
        """Return "fit" (the pictures, repeated), or "val" and "test" (others of the same subject, the same ones)."""
        pixels = self._pixels("val" if name == "test" else name)
        if name == "fit":
            # Every batch has each picture about as often.
            pixels = np.resize(pixels, (self.batch_size * self.iterations, *pixels.shape[1:]))
        return Images(pixels, np.zeros(len(pixels)))

    def fingerprint(self) -> str:
        """Return a hash of the pictures."""
        return digest("subject_pictures", {name: self._pixels(name).tobytes().hex() for name in self.sizes})


class SeveralSubjects(BaseDataModule):
    """A few pictures of each of several subjects, labeled with the subject's place in the list.

    Args:
        batch_size: the GLOBAL number of pictures of a step, of all subjects together.
        num_workers: loader processes of each rank; the images are in memory, so 0 is fastest.
        seed: seed of the order.
        subject_names: which of the six subjects of `subject_seed`, at least two.
        subject_seed: seed of the subjects.
        pictures: how many pictures there are of each.
        iterations: batches of the tuning.
        channels: always 3.
        image_size: side of a picture in pixels.
    """

    offers: ClassVar = {"images": "", "color images": "", "several subjects": ""}

    def __init__(
        self,
        *,
        batch_size: PositiveInt = 48,
        num_workers: NonNegativeInt = 0,
        seed: int = 0,
        subject_names: list[Literal["A", "B", "C", "D", "E", "F"]],
        subject_seed: int = 0,
        pictures: PositiveInt = 5,
        iterations: PositiveInt = 60,
        channels: Literal[3] = 3,
        image_size: SlotSize = 16,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        if not 2 <= len(set(subject_names)) == len(subject_names) <= subjects.SLOTS:
            raise UserError(f"data.subject_names is {subject_names}: takes two to four different subjects")
        self.image_shape = (channels, image_size, image_size)
        self.names, self.subject_seed = list(subject_names), subject_seed
        self.pictures, self.iterations = pictures, iterations
        self.test_names = ["test"]

    @property
    def subjects(self) -> list[Subject]:
        """The subjects, in the order of the list."""
        return [_subject(name, self.subject_seed) for name in self.names]

    def source(self, name: str) -> Images:
        """Return "fit" (the pictures, repeated), or "val" and "test" (the same, once)."""
        parts = [
            _subject_pixels(each, self.subject_seed, "fit", self.pictures, self.image_shape[1]) for each in self.names
        ]
        pixels, labels = np.concatenate(parts), np.repeat(np.arange(len(parts)), self.pictures)
        if name == "fit":
            repeats = -(-self.batch_size * self.iterations // len(pixels))
            pixels, labels = np.tile(pixels, (repeats, 1, 1, 1)), np.tile(labels, repeats)
        return Images(pixels, labels)

    def fingerprint(self) -> str:
        """Return a hash of the pictures."""
        return digest("several_subjects", self.names, self.source("val").pixels.tobytes().hex())
