"""LSUN as distributed: `<category>_{train,val}_lmdb`, a database whose values are pictures in webp or jpeg.

Source: https://github.com/fyu/lsun.
"""

import io
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import pil_to_tensor

from datamodules.loading import Batch
from datamodules.pictures import PictureError
from datamodules.transforms import Transform


@cache
def _environment(path: Path, process: int) -> Any:  # noqa: ARG001 - a database is not to be carried over a fork
    import lmdb

    return lmdb.open(str(path), readonly=True, lock=False, readahead=False, meminit=False, max_readers=256)


@cache
def keys(path: Path) -> list[bytes]:
    """Return the keys of a database, in its order.

    Raises:
        ValueError: if the folder is no database of lmdb.
    """
    import lmdb

    try:
        with _environment(path, os.getpid()).begin() as transaction:
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
        with _environment(self.path, os.getpid()).begin() as transaction:
            value = transaction.get(key)
        try:
            with Image.open(io.BytesIO(value)) as file:
                picture = file.convert("RGB")
        except OSError:
            raise PictureError(
                f"{self.path}: the value of {key.decode(errors='replace')} is not a whole picture"
            ) from None
        return {"image": self.transform(pil_to_tensor(picture)), "label": 0}
