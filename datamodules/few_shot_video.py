"""HMDB51, UCF101, Kinetics-100 and Something-Something as few-shot protocols: clips by path, splits by lists."""

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from torch.utils.data import Dataset
from torchvision.transforms import v2

from common.errors import UserError
from common.ranges import NonNegativeInt, PositiveInt, Range
from datamodules.base import digest
from datamodules.episodes import EpisodeSampler, EpisodeSource, EpisodicData, Ints, enough_first
from datamodules.formats.few_shot_lists import Listed, read_names, read_split
from datamodules.formats.video import SUFFIXES, Choice, ClipFinder, evenly, in_segments, read_clip
from datamodules.loading import Batch
from datamodules.transforms import Transform

_SPLITS = ("fit", "val", "test")


class VideoClips(Dataset[Any]):
    """Clips of files with their labels, transformed with noise from torch's generator.

    Args:
        paths: video files or folders of frames, of length n.
        labels: int [n].
        choose: which frames are taken.
        transform: from uint8 [t, 3, h, w] to uint8 [t, 3, s, s].
    """

    def __init__(self, paths: list[Path], labels: Ints, choose: Choice, transform: Transform) -> None:
        self.paths, self.labels, self.choose, self.transform = paths, labels, choose, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Batch:
        clip = read_clip(self.paths[index], self.choose)
        return {"image": self.transform(clip), "label": self.labels[index]}


class FewShotVideo(EpisodicData):
    """Classes of three lists that have no class in common; which, is the lists' to say.

    Args:
        batch_size: the GLOBAL number of episodes of a step.
        num_workers: loader processes of each rank.
        seed: seed of the training episodes and of augmentation.
        root: folder that names in the lists start from.
        folders: folders below it in which clips are looked for, in this order.
        lists: list of the clips of "fit", "val" and "test", see `datamodules.formats.few_shot_lists`.
        names: file with the class names of each, a line each.
        ways: classes of an episode.
        shots: labelled clips of each class in training.
        queries: other clips of each class in training.
        train_episodes: episodes of an epoch.
        eval_batch_size: the GLOBAL number of clips of a batch of evaluation.
        frames: frames of a clip.
        sampling: a frame of each of `frames` segments, or evenly spaced frames.
        test_sampling: the middle of each segment, or a random frame as in the released code.
        query_augmentation: whether queries of training are mirrored and their colours changed (Kinetics only).
        resize: side that frames are resized to, their shape not kept, before the crop.
        image_size: side of the crop.
    """

    offers: ClassVar = {"episodes": ""}

    def __init__(
        self,
        *,
        batch_size: PositiveInt = 4,
        num_workers: NonNegativeInt = 8,
        seed: NonNegativeInt = 0,
        root: str = "data/hmdb51",
        folders: list[str] | None = None,
        lists: Mapping[str, str] | None = None,
        names: Mapping[str, str] | None = None,
        ways: Annotated[int, Range(low=2)] = 5,
        shots: PositiveInt = 1,
        queries: PositiveInt = 5,
        train_episodes: PositiveInt = 20000,
        eval_batch_size: PositiveInt = 16,
        frames: PositiveInt = 8,
        sampling: Literal["segments", "even"] = "segments",
        test_sampling: Literal["middle", "random"] = "middle",
        query_augmentation: bool = False,
        resize: PositiveInt = 256,
        image_size: PositiveInt = 224,
    ) -> None:
        episodes = {"ways": ways, "shots": shots, "queries": queries, "train_episodes": train_episodes}
        super().__init__(
            batch_size=batch_size, num_workers=num_workers, seed=seed, eval_batch_size=eval_batch_size, **episodes
        )
        for key, given in (("lists", lists), ("names", names)):
            if set(given or {}) != set(_SPLITS):
                raise UserError(f"data.{key} should name a file for each of {', '.join(_SPLITS)}")
        if image_size > resize:
            raise UserError(f"data.resize is {resize}, below data.image_size, {image_size}")
        if sampling == "even" and test_sampling == "random":
            raise UserError("data.test_sampling is random: evenly spaced frames (data.sampling=even) are not drawn")
        self.root, self.folders = Path(root), [Path(root) / folder for folder in folders or [""]]
        self._finder, self._found = ClipFinder(self.folders), dict[str, list[Path]]()
        self.lists, self.names = ({k: Path(v) for k, v in dict(given or {}).items()} for given in (lists, names))
        self.frames, self.sampling, self.test_sampling = frames, sampling, test_sampling
        self.query_augmentation, self.resize = query_augmentation, resize
        self.image_shape = (3, image_size, image_size)

    # Lists.

    @cached_property
    def _splits(self) -> dict[str, Listed]:
        splits = {name: read_split(self.lists[name], read_names(self.names[name])) for name in _SPLITS}
        for one, other in (("fit", "val"), ("fit", "test"), ("val", "test")):
            for key, own, others in (
                ("names", splits[one].names, splits[other].names),
                ("lists", splits[one].clips, splits[other].clips),
            ):
                if common := set(own) & set(others):
                    what = f"{'class' if key == 'names' else 'clip'} '{min(common)}'"
                    raise UserError(f"{what} is in data.{key}.{one} and in data.{key}.{other}")
        return splits

    def _paths(self, split: str) -> list[Path]:
        """Return the file or folder of every clip of a split, as listed."""
        if split not in self._found:
            clips = self._splits[split].clips
            paths = [self._finder.find(clip) for clip in clips]
            missing = [clip for clip, path in zip(clips, paths, strict=True) if path is None]
            if missing:
                raise FileNotFoundError(
                    f"{len(missing)} of {len(clips)} clips of data.lists.{split} are not in"
                    f" {' or '.join(map(str, self.folders))}, such as {missing[0]}; expected there: a file"
                    f" ({', '.join(SUFFIXES)}) or a folder of frames for each"
                )
            self._found[split] = [path for path in paths if path]
        return self._found[split]

    def check(self) -> None:
        """Raise FileNotFoundError if lists, names or clips are not there."""
        self._check(_SPLITS)

    def check_test(self) -> None:
        """Raise FileNotFoundError if lists, names or the test's clips are not there; other clips need not be."""
        self._check(("test",))

    def _check(self, splits: Sequence[str]) -> None:
        for key, files in (("lists", self.lists), ("names", self.names)):
            for split, path in files.items():
                if not path.is_file():
                    told = "lines such as train12//path/of/clip.mp4" if key == "lists" else "a class name a line"
                    raise FileNotFoundError(f"no file data.{key}.{split}={path}; expected there: {told}")
        firsts = [self._paths(split)[0] for split in splits]
        if not firsts[0].is_dir() and find_spec("av") is None:
            raise UserError("data: video files are read by PyAV, which is not installed: pip install 'quire[video]'")

    def class_names(self, split: str) -> list[str]:
        """Return the names of the classes of "fit", "val" or "test"."""
        return self._splits[split].names

    def fingerprint(self) -> str:
        """Return a hash of the lists, the names, and of how clips are prepared."""
        how = (self.image_shape, self.frames, self.sampling, self.test_sampling, self.query_augmentation, self.resize)
        return digest("few-shot video", how, {name: list(split) for name, split in self._splits.items()})

    # Clips.

    def _order(self, split: str) -> Ints:
        """Return the order of a split's clips: as listed for training, else such that few are enough for episodes."""
        labels = np.array(self._splits[split].labels)
        return np.arange(len(labels)) if split == "fit" else enough_first(labels, self.ways)

    def labels(self, split: str) -> Ints:
        """Return the label of every clip of "fit", "val" or "test", in the order of its source."""
        return np.array(self._splits[split].labels)[self._order(split)]

    def _choose(self, *, random: bool) -> Choice:
        if self.sampling == "even":
            # Where the released code's steps of 35 frames end (clip_fsar §2.8).
            return partial(evenly, frames=self.frames, margin=35)
        return partial(in_segments, frames=self.frames, random=random)

    def _transform(self, *, crops: bool, changes: bool) -> Transform:
        size = self.image_shape[1]
        steps: list[Transform] = [v2.Resize((self.resize, self.resize), antialias=True)]
        steps.append(v2.RandomCrop(size) if crops else v2.CenterCrop(size))
        if changes:
            steps += [v2.RandomHorizontalFlip(), v2.ColorJitter(0.5, 0.5, 0.5, 0.25), v2.RandomGrayscale(0.3)]
        return v2.Compose(steps)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Normalize clips on the device: bytes travel there in a quarter of the time and memory of numbers."""
        return super().on_after_batch_transfer(batch | {"image": batch["image"] / 127.5 - 1}, dataloader_idx)

    def _clips(self, split: str, *, random: bool, crops: bool, changes: bool = False) -> VideoClips:
        found = self._paths(split)
        paths = [found[k] for k in self._order(split)]
        transform = self._transform(crops=crops, changes=changes)
        return VideoClips(paths, self.labels(split), self._choose(random=random), transform)

    def source(self, name: str) -> Dataset[Any]:
        """Return episodes ("fit") or clips ("val", "test"), these in an order that `enough_first` says."""
        if name != "fit":
            return self._clips(name, random=self.test_sampling == "random", crops=False)
        support = self._clips(name, random=True, crops=True)
        queries = self._clips(name, random=True, crops=True, changes=self.query_augmentation)
        sampler = EpisodeSampler(self.labels(name), self.ways, self.shots, self.queries)
        return EpisodeSource(support, queries, sampler, self.train_episodes)
