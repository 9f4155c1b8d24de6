"""LSUN as distributed: `<category>_{train,val}_lmdb`, a database whose values are pictures in webp or jpeg.

Source: https://github.com/fyu/lsun.
"""

import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from datamodules.loading import Batch
from datamodules.pictures import decode
from datamodules.transforms import Transform

_opened: dict[Path, tuple[int, Any]] = {}


def _environment(path: Path) -> Any:
    """Return a database, opened by this process: one is not to be carried over a fork."""
    import lmdb

    process, environment = _opened.get(path, (None, None))
    if process != os.getpid():
        if environment is not None:
            # lmdb opens nothing twice, and takes what the parent of a worker had opened for the worker's own.
            environment.close()
        environment = lmdb.open(str(path), readonly=True, lock=False, readahead=False, meminit=False, max_readers=256)
        _opened[path] = os.getpid(), environment
    return environment


@cache
def keys(path: Path) -> list[bytes]:
    """Return the keys of a database, in its order.

    Raises:
        ValueError: if the folder is no database of lmdb.
    """
    import lmdb

    try:
        with _environment(path).begin() as transaction:
            return list(transaction.cursor().iternext(values=False))
    except lmdb.Error as error:
        raise ValueError(f"{path} is not a database of LSUN as distributed: {error}") from None


class LsunPictures(Dataset[Any]):
    """Pictures of a database, in the order of its keys.

    Args:
        path: the database's folder.
        places: which of its keys, int64 [n].
        transform: from uint8 [3, h, w] to float32 [3, s, s].
    """

    def __init__(self, path: Path, places: np.ndarray[Any, Any], transform: Transform) -> None:
        self.path, self.places, self.transform = path, places, transform

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Batch:
        key = keys(self.path)[self.places[index]]
        with _environment(self.path).begin() as transaction:
            value = transaction.get(key)
        name = f"{self.path}: the value of {key.decode(errors='replace')}"
        return {"image": self.transform(decode(value, name)), "label": 0}
