"""Clips as distributed: video files, read by PyAV, or folders of frames."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from datamodules.formats.folders import PICTURES
from datamodules.pictures import PictureError

SUFFIXES = (".mp4", ".webm", ".avi", ".mkv")
Choice = Callable[[int], NDArray[np.int64]]
"""From the number of frames of a video to the places, rising, of those that are wanted."""


def find_clip(folders: Sequence[Path], name: str) -> Path | None:
    """Return the video file or the folder of frames that a list means by a name, None if there is none.

    Args:
        folders: where to look, in this order.
        name: a path below one of them, with or without the suffix of the file that is there.
    """
    for folder in folders:
        path = folder / name
        stem = path.with_suffix("") if path.suffix in SUFFIXES else path
        for found in (path, *(stem.with_name(stem.name + suffix) for suffix in SUFFIXES), stem):
            if found.exists():
                return found
    return None


def read_clip(path: Path, choose: Choice) -> Tensor:
    """Return the chosen frames of a clip, uint8 [t, 3, h, w].

    Raises:
        PictureError: if the clip cannot be read.
    """
    return _from_folder(path, choose) if path.is_dir() else _from_video(path, choose)


def _from_folder(path: Path, choose: Choice) -> Tensor:
    frames = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES)
    if not frames:
        raise PictureError(f"{path} has no frames")
    pictures = []
    for place in choose(len(frames)):
        try:
            with Image.open(frames[place]) as file:
                pictures.append(pil_to_tensor(file.convert("RGB")))
        except OSError:
            raise PictureError(f"{frames[place]} is not a whole picture") from None
    return torch.stack(pictures)


def _from_video(path: Path, choose: Choice) -> Tensor:
    import av

    kept: dict[int, NDArray[np.uint8]] = {}
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            wanted = choose(max(stream.frames or _count_packets(path), 1)).tolist()
            last = None
            for place, frame in enumerate(container.decode(stream)):
                if place in wanted:
                    kept[place] = frame.to_ndarray(format="rgb24")
                last = frame
                if place == wanted[-1]:
                    break
            if last is None:
                raise PictureError(f"{path} has no frames")
            # The header of a file may promise more frames than there are.
            end = kept[wanted[-1]] if wanted[-1] in kept else last.to_ndarray(format="rgb24")
    except (av.FFmpegError, IndexError):
        raise PictureError(f"{path} is not a whole video") from None
    return torch.from_numpy(np.stack([kept.get(place, end) for place in wanted])).permute(0, 3, 1, 2)


def _count_packets(path: Path) -> int:
    """Return the number of frames of a file whose header does not say it; nothing is decoded."""
    import av

    with av.open(str(path)) as container:
        return sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))


def in_segments(count: int, frames: int, *, random: bool) -> NDArray[np.int64]:
    """Return one frame of each of `frames` equal segments: the middle one, or one drawn with torch's generator.

    Clips shorter than that show frames more than once. Source: section 2.4 of the CLIP-FSAR spec.
    """
    length = count // frames
    if length == 0:
        return np.minimum(np.arange(frames) * count // frames, count - 1)
    off = torch.randint(length, (frames,)).numpy() if random else np.full(frames, length // 2)
    return np.arange(frames) * length + off


def evenly(count: int, frames: int, margin: int) -> NDArray[np.int64]:
    """Return evenly spaced frames, from the first to `margin` before the end."""
    return np.linspace(0, max(count - margin, 1) - 1, frames).astype(np.int64)
