"""Folders of pictures as distributed: one sub-folder per class, and the validation set of Tiny ImageNet."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PICTURES = {".png", ".jpg", ".jpeg"}


def pictures(folder: Path) -> list[Path]:
    """Return the pictures in the sub-folders of a folder, sorted."""
    return sorted(path for path in folder.glob("*/*") if path.suffix.lower() in PICTURES)


def read_pictures(paths: Sequence[Path], size: int) -> NDArray[np.uint8]:
    """Read pictures, those of another size resized (bilinear, antialiased).

    Returns:
        Images uint8 [n, 3, size, size].

    Raises:
        ValueError: if a file is not a picture.
    """
    images = np.empty((len(paths), 3, size, size), np.uint8)
    for place, path in enumerate(paths):
        try:
            with Image.open(path) as file:
                picture = file.convert("RGB")
        except OSError:
            raise ValueError(f"{path} is not a whole picture") from None
        if picture.size != (size, size):
            picture = picture.resize((size, size), Image.Resampling.BILINEAR)
        images[place] = np.asarray(picture).transpose(2, 0, 1)
    return images


def tiny_imagenet_val(folder: Path) -> tuple[list[Path], NDArray[np.int64]]:
    """Return the pictures of Tiny ImageNet's validation set, in the order of its list, and their class numbers.

    Args:
        folder: `tiny-imagenet-200`, with `wnids.txt` (its line k names class k), `val/val_annotations.txt` (file, class
            and box of each picture, between tabs) and `val/images/`.

    Returns:
        Paths and labels int64 [n].

    Raises:
        ValueError: if the list names a class that is none.
    """
    classes = {name: number for number, name in enumerate((folder / "wnids.txt").read_text().split())}
    notes = folder / "val" / "val_annotations.txt"
    rows = [line.split("\t")[:2] for line in notes.read_text().splitlines() if line.strip()]
    try:
        labels = np.array([classes[name] for _, name in rows], np.int64)
        return [folder / "val" / "images" / file for file, _ in rows], labels
    except (KeyError, ValueError) as error:
        raise ValueError(f"{notes} is not Tiny ImageNet's list of validation pictures: {error}") from None


def class_folders(folder: Path) -> list[str]:
    """Return the names of the sub-folders of a folder, sorted: their places are the class numbers."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
