"""Clips as distributed: video files, read by PyAV, or folders of frames."""

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from common.errors import UserError
from datamodules.formats.folders import PICTURES

SUFFIXES = (".mp4", ".webm", ".avi", ".mkv")
Choice = Callable[[int], NDArray[np.int64]]
"""From the number of frames of a video to the places, rising, of those that are wanted."""


class ClipFinder:
    """Finds what lists mean by a name; every folder is read once, for stats of a hundred thousand files take minutes.

    Args:
        folders: where to look, in this order.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._inside: dict[str, dict[str, str]] = {}

    def find(self, name: str) -> Path | None:
        """Return the video file or the folder of frames of a name, None if there is none.

        Args:
            name: a path below one of the folders, with or without the suffix of the file that is there.
        """
        for folder in self._folders:
            parent, _, last = str(folder / name).rpartition(os.sep)
            if parent not in self._inside:
                self._inside[parent] = {_stem(entry): entry for entry in sorted(_entries(parent))}
            found = self._inside[parent].get(_stem(last))
            if found is not None:
                return Path(parent, found)
        return None


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - names are all that is wanted, of very many files
    except (FileNotFoundError, NotADirectoryError):
        return []


def _stem(name: str) -> str:
    """Return a name without the suffix of a video."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - as above
    return stem if suffix.lower() in SUFFIXES else name


def read_clip(path: Path, choose: Choice) -> Tensor:
    """Return the chosen frames of a clip, uint8 [t, 3, h, w]; all have the size of the first.

    Raises:
        UserError: if the clip cannot be read.
    """
    if path.is_dir():
        return _from_folder(path, choose)
    wanted = choose(count_frames(path)).tolist()
    kept: dict[int, NDArray[np.uint8]] = {}
    for place, pixels in frames_of(path, set(wanted)):
        kept[place] = end = pixels
    # The header of a file may promise more frames than there are; then the last is shown again.
    return torch.from_numpy(np.stack([kept.get(place, end) for place in wanted])).permute(0, 3, 1, 2)


def _from_folder(path: Path, choose: Choice) -> Tensor:
    frames = [file for file in path.iterdir() if file.suffix.lower() in PICTURES]
    # Shorter names first: 2.jpg stands before 10.jpg.
    frames.sort(key=lambda file: (len(file.name), file.name))
    if not frames:
        raise UserError(f"{path} has no frames")
    pictures: list[Tensor] = []
    for place in choose(len(frames)):
        try:
            with Image.open(frames[place]) as file:
                picture = file.convert("RGB")
        except OSError:
            raise UserError(f"{frames[place]} is not a whole picture") from None
        if pictures:
            _, height, width = pictures[0].shape
            if picture.size != (width, height):
                picture = picture.resize((width, height))
        pictures.append(pil_to_tensor(picture))
    return torch.stack(pictures)


def count_frames(path: Path) -> int:
    """Return the number of frames of a video, at least 1; nothing is decoded.

    Raises:
        UserError: if the file is no video.
    """
    with _opened(path) as (container, stream):
        return max(stream.frames or sum(packet.size > 0 for packet in container.demux(stream)), 1)


def frames_of(path: Path, wanted: Collection[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield the wanted frames of a video, uint8 [h, w, 3], each with its place, and the last if some are not there.

    Raises:
        UserError: if the video cannot be read.
    """
    with _opened(path) as (container, stream):
        last, end = None, max(wanted)
        size = {"width": stream.width, "height": stream.height}
        for place, frame in enumerate(container.decode(stream)):
            if place in wanted:
                yield place, frame.to_ndarray(format="rgb24", **size)
            if place == end:
                return
            last = place, frame
        if last is None:
            raise UserError(f"{path} has no frames")
        if last[0] not in wanted:
            yield last[0], last[1].to_ndarray(format="rgb24", **size)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    import av

    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            if torch.utils.data.get_worker_info() is None:
                stream.thread_type = "AUTO"
            else:
                # Workers share the cores; each decodes with one.
                stream.codec_context.thread_count = 1
            yield container, stream
    except (av.FFmpegError, IndexError):
        raise UserError(f"{path} is not a whole video") from None


def in_segments(count: int, frames: int, *, random: bool) -> NDArray[np.int64]:
    """Return one frame of each of `frames` equal segments: the middle one, or one drawn with torch's generator.

    Clips shorter than that show frames more than once. Source: clip_fsar §2.8.
    """
    length = count // frames
    if length == 0:
        return np.minimum(np.arange(frames) * count // frames, count - 1)
    off = torch.randint(length, (frames,)).numpy() if random else np.full(frames, length // 2)
    return np.arange(frames) * length + off


def evenly(count: int, frames: int, margin: int) -> NDArray[np.int64]:
    """Return evenly spaced frames, from the first to `margin` before the end; of short clips, to the last.

    Source: clip_fsar §2.8, for clips of ten seconds; what is short is our choice: twice the margin.
    """
    return np.linspace(0, count - margin if count > 2 * margin else count - 1, frames).astype(np.int64)
