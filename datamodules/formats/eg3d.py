"""EG3D's format: pictures anywhere in a folder or a .zip file, and one `dataset.json` at its top with their cameras.

`dataset.json` is {"labels": [[name, camera], ...]}; names use "/" and start at the top. A camera is 25 numbers: the
matrix [4, 4] from the camera's frame to the world's, row by row (OpenCV: x right, y down, z away from the camera), then
the intrinsics [3, 3] in units of the picture's side.

Source: https://github.com/NVlabs/eg3d.
"""

import json
import math
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import BadZipFile, ZipFile
from zlib import error as ZlibError  # noqa: N812 - a class

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from common.errors import UserError
from datamodules.formats.folders import PICTURES
from datamodules.loading import Batch
from datamodules.pictures import decode
from datamodules.transforms import Transform

LABELS = "dataset.json"
LAYOUT = f"a .zip file or a folder, with {LABELS} at its top and the pictures it names, such as 00000/img00000000.png"
NUMBERS = 25
# S @ matrix @ S with S = diag(-1, 1, 1, 1) turns these signs; then the skew's.
_SIGNS = np.ones(NUMBERS, np.float32)
_SIGNS[[1, 2, 3, 4, 8, 12, 17]] = -1
_CX = 18


class Store:
    """The files in a folder or a .zip file, by their names with "/" from its top; nothing is unpacked to disk.

    Args:
        root: the folder or the .zip file.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._opened: tuple[int, ZipFile] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}

    def _zip(self) -> ZipFile:
        # An open file shares its position over a fork, so every process opens its own.
        if self._opened is None or self._opened[0] != os.getpid():
            try:
                self._opened = (os.getpid(), ZipFile(self.root))
            except BadZipFile as error:
                raise ValueError(f"{self.root} is not a whole .zip file ({error}); expected there: {LAYOUT}") from None
        return self._opened[1]

    @cached_property
    def names(self) -> list[str]:
        """The names of the pictures, sorted, and of `dataset.json` if it is there."""
        if self.root.is_dir():
            found = {path.relative_to(self.root).as_posix() for path in self.root.rglob("*")}
        else:
            found = {name for name in self._zip().namelist() if not name.endswith("/")}
        return sorted(name for name in found if name == LABELS or PurePosixPath(name).suffix.lower() in PICTURES)

    def read(self, name: str) -> bytes:
        """Return the content of one of `names`."""
        return (self.root / name).read_bytes() if self.root.is_dir() else self._zip().read(name)


def read_cameras(store: Store) -> tuple[list[str], NDArray[np.float32]]:
    """Return the names of the pictures, sorted, and their cameras; labels of pictures that are not there are left out.

    Returns:
        Names and cameras float32 [n, 25].

    Raises:
        ValueError: in one line, if `dataset.json` is broken or lacks the camera of a picture.
    """
    path = f"{store.root}/{LABELS}"
    try:
        content = json.loads(store.read(LABELS))
    except (ValueError, BadZipFile, ZlibError):
        raise ValueError(f"{path} is not whole JSON") from None
    listed = content.get("labels") if isinstance(content, dict) else None
    labels = listed if isinstance(listed, list) else None
    if labels is None:
        raise ValueError(f'{path} has no cameras; expected there: {{"labels": [[name, [{NUMBERS} numbers]], ...]}}')
    known = {}
    for row in labels:
        if not (isinstance(row, list) and len(row) == 2 and isinstance(row[0], str)):
            raise ValueError(f"{path} has a label that is not [name, [{NUMBERS} numbers]]: {str(row)[:80]}")
        known[row[0]] = row[1]
    names = [name for name in store.names if name != LABELS]
    for name in names:
        if name not in known:
            raise ValueError(f"{path} has no label of {name}; expected there: one for every picture")
        if not _is_camera(known[name]):
            raise ValueError(
                f"{path}: the label of {name} is not {NUMBERS} finite numbers (camera to world, intrinsics)"
            )
    return names, np.array([known[name] for name in names], np.float32).reshape(-1, NUMBERS)


def _is_camera(label: Any) -> bool:
    return (
        isinstance(label, list)
        and len(label) == NUMBERS
        and all(type(value) in {int, float} and math.isfinite(value) for value in label)
    )


def mirrored(camera: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the cameras [..., 25] that see mirrored pictures of a world mirrored at x = 0.

    With S = diag(-1, 1, 1, 1) the matrix becomes S @ matrix @ S, cx becomes 1 - cx, and the skew turns its sign.
    """
    turned = camera * _SIGNS
    turned[..., _CX] = 1 - camera[..., _CX]
    return turned


class PosedPictures(Dataset[Any]):
    """Pictures with their cameras.

    Args:
        store: where the pictures are.
        names: which of them, of length n.
        cameras: float32 [n, 25].
        transform: from uint8 [3, h, h] to float32 [3, s, s], without mirroring.
        flip: whether half of the pictures are mirrored, with their cameras, by torch's generator.
    """

    def __init__(
        self, store: Store, names: Sequence[str], cameras: NDArray[np.float32], transform: Transform, *, flip: bool
    ) -> None:
        assert cameras.shape == (len(names), NUMBERS)
        self.store, self.names, self.cameras = store, list(names), cameras
        self.transform, self.flip = transform, flip

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Batch:
        name, camera = self.names[index], self.cameras[index]
        called = f"{self.store.root}: {name}"
        try:
            picture = decode(self.store.read(name), called)
        except (OSError, BadZipFile, ZlibError):
            raise UserError(f"{called} is not a whole picture") from None
        height, width = picture.shape[1:]
        if width != height:
            raise UserError(f"{called} is {width} x {height}; its camera asks for a square picture")
        image = self.transform(picture)
        if self.flip and torch.rand(()) < 0.5:
            image, camera = image.flip(-1), mirrored(camera)
        return {"image": image, "camera": camera, "label": 0}
