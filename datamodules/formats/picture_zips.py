"""stylegan2-ada-pytorch's format: pictures anywhere in a .zip file or a folder, and class labels if `dataset.json` has.

`dataset.json`, at the top and optional, is {"labels": [[name, class number], ...]} or {"labels": null}; names use "/".

Source: https://github.com/NVlabs/stylegan2-ada-pytorch (dataset_tool.py, training/dataset.py).
"""

import json
from collections.abc import Sequence
from typing import Any
from zipfile import BadZipFile
from zlib import error as ZlibError  # noqa: N812 - a class

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from common.errors import UserError
from datamodules.formats.eg3d import LABELS, Store
from datamodules.loading import Batch
from datamodules.pictures import decode
from datamodules.transforms import Transform

LAYOUT = (
    "a .zip file of stylegan2-ada-pytorch's dataset_tool.py, or a folder, with pictures such as"
    f" 00000/img00000000.png; {LABELS} at its top may have their classes"
)


def read_classes(store: Store) -> tuple[list[str], NDArray[np.int64]]:
    """Return the names of the pictures, sorted, and their classes: 0 for all where `dataset.json` has none.

    Labels that are no class numbers, such as EG3D's cameras, count as none.

    Returns:
        Names and classes int64 [n].

    Raises:
        ValueError: in one line, if `dataset.json` is broken, or has the classes of some pictures only.
    """
    names = [name for name in store.names if name != LABELS]
    labels = _labels(store) if LABELS in store.names else {}
    is_class = [isinstance(labels.get(name), int) for name in names]
    if not any(is_class):
        return names, np.zeros(len(names), np.int64)
    if not all(is_class):
        missing = names[is_class.index(False)]
        raise ValueError(f"{store.root}/{LABELS} has no class of {missing}; expected: one of every picture, or none")
    return names, np.array([labels[name] for name in names], np.int64)


def _labels(store: Store) -> dict[str, Any]:
    path = f"{store.root}/{LABELS}"
    try:
        content = json.loads(store.read(LABELS))
    except (ValueError, BadZipFile, ZlibError):
        raise ValueError(f"{path} is not whole JSON") from None
    labels = content.get("labels") if isinstance(content, dict) else ()
    if labels is None:
        return {}
    rows = labels if isinstance(labels, list) else [None]
    if not all(isinstance(row, list) and len(row) == 2 and isinstance(row[0], str) for row in rows):
        raise ValueError(f'{path} should be {{"labels": [[name, class number], ...]}} or {{"labels": null}}')
    return {row[0]: row[1] for row in labels or ()}


class StoredPictures(Dataset[Any]):
    """Pictures of a .zip file or a folder, by name, with their classes.

    Args:
        store: where the pictures are.
        names: which of them, of length n.
        classes: int64 [n].
        transform: from uint8 [3, h, w] to float32 [3, s, s], with noise from torch's generator.
    """

    def __init__(self, store: Store, names: Sequence[str], classes: NDArray[np.int64], transform: Transform) -> None:
        assert len(names) == len(classes)
        self.store, self.names, self.classes, self.transform = store, list(names), classes, transform

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Batch:
        name = f"{self.store.root}: {self.names[index]}"
        try:
            picture = decode(self.store.read(self.names[index]), name)
        except (OSError, BadZipFile, ZlibError):
            raise UserError(f"{name} is not a whole picture") from None
        return {"image": self.transform(picture), "label": self.classes[index]}
