"""A task of VTAB-1k as distributed for PyTorch: a folder of pictures and four lists of "path label" lines.

Layout as in the released code of SSF (u_tuning §3.3).
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LISTS = ("train800.txt", "val200.txt", "train800val200.txt", "test.txt")


def read_list(file: Path, num_classes: int) -> tuple[list[Path], NDArray[np.int64]]:
    """Read one list.

    Returns:
        Paths of the pictures and labels int64 [n] in 0..num_classes - 1.

    Raises:
        ValueError: if a line is not a path and such a label, or there is none.
    """
    rows = [line.rsplit(maxsplit=1) for line in file.read_text().splitlines() if line.strip()]
    try:
        paths, labels = [file.parent / name for name, _ in rows], np.array([int(label) for _, label in rows], np.int64)
    except ValueError:
        raise ValueError(f"{file} is not a list of VTAB-1k: lines 'path label' expected") from None
    if not len(labels) or not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(f"{file} should name pictures with labels 0 to {num_classes - 1}")
    return paths, labels
