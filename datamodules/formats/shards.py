"""WebDataset's shards, as img2dataset writes them: `00000.tar`, ... with `000000000.jpg` and so on in them.

Where every picture lies is read from the shards' headers once, so that pictures are drawn in any order: a run that goes
on, on any number of processes, draws what it would have drawn. Whatever else a sample has (.txt, .json) is passed over.

Source: https://github.com/webdataset/webdataset and https://github.com/rom1504/img2dataset.
"""

import os
import tarfile
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from datamodules.formats.folders import PICTURES
from datamodules.loading import Batch
from datamodules.pictures import decode
from datamodules.transforms import Transform

_SUFFIXES = {*PICTURES, ".webp"}


def shards(root: Path) -> list[Path]:
    """Return the shards in a folder, sorted."""
    return sorted(root.glob("*.tar"))


def index(paths: list[Path]) -> NDArray[np.int64]:
    """Return where the pictures lie.

    Returns:
        int64 [n, 3]: the shard's place in `paths`, the picture's first byte in it, its length; in the shards' order.

    Raises:
        ValueError: if a file is not a whole .tar file.
    """
    rows = []
    for number, path in enumerate(paths):
        try:
            with tarfile.open(path, "r:") as file:
                rows += [(number, member.offset_data, member.size) for member in file if _is_picture(member)]
        except tarfile.TarError as error:
            raise ValueError(f"{path} is not a whole .tar file: {error}") from None
        if rows and rows[-1][0] == number and sum(rows[-1][1:]) > path.stat().st_size:
            raise ValueError(f"{path} is not a whole .tar file: its last picture is cut off")
    return np.array(rows, np.int64).reshape(-1, 3)


def _is_picture(member: tarfile.TarInfo) -> bool:
    return member.isfile() and PurePosixPath(member.name).suffix.lower() in _SUFFIXES


@lru_cache(maxsize=64)
def _opened(path: Path, process: int) -> IO[bytes]:  # noqa: ARG001 - every process opens its own
    return path.open("rb", buffering=0)


class ShardPictures(Dataset[Any]):
    """Pictures in shards.

    Args:
        paths: the shards.
        places: which pictures, rows of `index`, int64 [n, 3].
        transform: from uint8 [3, h, w] to float32 [3, s, s].
    """

    def __init__(self, paths: list[Path], places: NDArray[np.int64], transform: Transform) -> None:
        self.paths, self.places, self.transform = paths, places, transform

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Batch:
        shard, first, length = map(int, self.places[index])
        path = self.paths[shard]
        content = os.pread(_opened(path, os.getpid()).fileno(), length, first)
        return {"image": self.transform(decode(content, f"{path}: what begins at byte {first}")), "label": 0}
