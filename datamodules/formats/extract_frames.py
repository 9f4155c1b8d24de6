"""Turn video files into folders of frames, once, so that training decodes no video (clip_fsar §5).

`python -m datamodules.formats.extract_frames data/hmdb51/videos data/hmdb51/frames/videos`, then
`data.folders=[frames]`: lists stay as they are. What is there is not made again; a video that cannot be read is told at
the end.
"""

import argparse
import os
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import rich
from PIL import Image
from rich.progress import track

from common.errors import UserError
from datamodules.formats.video import SUFFIXES, count_frames, frames_of, in_segments


def extract(path: Path, source: Path, target: Path, size: int, frames: int) -> str | None:
    """Write a video's frames to the folder of its name, whole or not at all.

    Args:
        path: the video, below `source`.
        source: folder that names start from.
        target: folder that gets a folder of frames for each video.
        size: side that frames are resized to, their shape not kept.
        frames: how many, each from the middle of its segment; 0 for all, from which training can draw.

    Returns:
        What is wrong with the video, None if nothing is.
    """
    folder = target / path.relative_to(source).with_suffix("")
    if folder.exists():
        return None
    made = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    try:
        count = count_frames(path)
        made.mkdir(parents=True)
        for place, pixels in frames_of(path, set(in_segments(count, frames or count, random=False).tolist())):
            frame = Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR)
            frame.save(made / f"{place:06d}.jpg", quality=95)
        made.rename(folder)
    except UserError as error:
        return str(error)
    except OSError as error:
        return f"{path}: {folder} cannot be made ({error.strerror})"
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return None


def main(words: list[str] | None = None) -> int:
    """Extract all videos of a folder, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder with videos, at any depth")
    parser.add_argument("target", type=Path, help="folder for the frames")
    parser.add_argument("--size", type=int, default=256, help="side of a frame")
    parser.add_argument("--frames", type=int, default=0, help="frames of a video, 0 for all")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    given = parser.parse_args(words)
    paths = sorted(path for path in given.source.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        parser.error(f"no videos ({', '.join(SUFFIXES)}) under {given.source}")
    work = partial(extract, source=given.source, target=given.target, size=given.size, frames=given.frames)
    with ProcessPoolExecutor(given.processes) as pool:
        told = list(track(pool.map(work, paths, chunksize=8), "frames", len(paths)))
    wrong = [text for text in told if text]
    for text in wrong:
        print(text, file=sys.stderr)
    rich.print(f"{len(paths) - len(wrong)} of {len(paths)} videos are in {given.target}")
    return 2 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
