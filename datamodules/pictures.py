"""Data sets of picture files, each read when it is asked for."""

from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import pil_to_tensor

from common.errors import UserError
from datamodules.loading import Batch
from datamodules.transforms import Transform


def decode(file: Path | bytes, name: object) -> Tensor:
    """Return a picture in RGB, uint8 [3, h, w].

    Args:
        file: the picture's file or its content.
        name: what to call it.

    Raises:
        UserError: if it is not a whole picture.
    """
    try:
        with Image.open(BytesIO(file) if isinstance(file, bytes) else file) as opened:
            return pil_to_tensor(opened.convert("RGB"))
    except OSError:
        raise UserError(f"{name} is not a whole picture") from None


class Pictures(Dataset[Any]):
    """Picture files with their labels, turned to RGB and then transformed with noise from torch's generator.

    Args:
        paths: the files, of length n.
        labels: int [n].
        transform: from uint8 [3, h, w] to float32 [3, s, s].
    """

    def __init__(self, paths: Sequence[Path], labels: NDArray[Any], transform: Transform) -> None:
        assert len(paths) == len(labels)
        self.paths, self.labels, self.transform = list(paths), np.asarray(labels, np.int64), transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Batch:
        path = self.paths[index]
        return {"image": self.transform(decode(path, path)), "label": self.labels[index]}


def check_pictures(paths: Iterable[Path], layout: str) -> None:
    """Raise FileNotFoundError, naming the first, if listed pictures are not there.

    Args:
        paths: the pictures of all splits.
        layout: what is expected where, for the message.
    """
    missing = [path for path in paths if not path.is_file()]
    if missing:
        told = "a picture of the splits is" if len(missing) == 1 else f"{len(missing)} pictures of the splits are"
        raise FileNotFoundError(f"{told} not there, such as {missing[0]}; {layout}")
