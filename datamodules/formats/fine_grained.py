"""Splits of the five fine-grained sets: as each is distributed, or as VPT's `{train,val,test}.json` (u_tuning §3.3).

A split is a list of rows, each a picture's path below the image folder and its class id as written in the files.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Rows = list[tuple[str, Any]]
JSON = ("train.json", "val.json", "test.json")


class Form(NamedTuple):
    """How a set is distributed: below its root, an image folder and the files that tell the splits."""

    images: str
    files: tuple[str, ...]
    layout: str
    read: Callable[[Path], dict[str, Rows]]


def _pairs(path: Path) -> dict[str, str]:
    """Return a list of the form "id value" as a mapping."""
    rows = [line.split(maxsplit=1) for line in path.read_text().splitlines() if line.strip()]
    if not rows or any(len(row) != 2 for row in rows):
        raise ValueError(f"{path} is not a list of lines 'id value'")
    return {key: value.strip() for key, value in rows}


def _listed(root: Path) -> dict[str, Rows]:
    """Read the three lists of CUB and NABirds; a picture whose flag is 1 is for training."""
    names = _pairs(root / "images.txt")
    labels, flags = _pairs(root / "image_class_labels.txt"), _pairs(root / "train_test_split.txt")
    if not names.keys() == labels.keys() == flags.keys():
        raise ValueError(f"{root}: images.txt, image_class_labels.txt and train_test_split.txt name different pictures")
    try:
        ids = {key: int(label) for key, label in labels.items()}
    except ValueError:
        raise ValueError(f"{root / 'image_class_labels.txt'} has a class id that is no whole number") from None
    flag_of = {"train": "1", "test": "0"}
    return {
        split: [(name, ids[key]) for key, name in names.items() if flags[key] == flag]
        for split, flag in flag_of.items()
    }


def _mat(path: Path, *names: str) -> list[NDArray[Any]]:
    """Return variables of a MATLAB file, each flat; scipy reads values only and runs nothing."""
    from scipy.io import loadmat

    try:
        content = loadmat(path, squeeze_me=True)
        return [np.atleast_1d(content[name]) for name in names]
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - a broken MATLAB file can raise any kind
        reason = " ".join(str(error).split())[:100]
        raise ValueError(f"{path} is not a MATLAB file with {', '.join(names)}: {reason}") from None


def _flowers(root: Path) -> dict[str, Rows]:
    """Read Oxford Flowers; it brings a validation split of its own, and counts its pictures from 1."""
    (labels,) = _mat(root / "imagelabels.mat", "labels")
    chosen = dict(zip(("train", "val", "test"), _mat(root / "setid.mat", "trnid", "valid", "tstid"), strict=True))
    if any(len(of) and not 1 <= of.min() <= of.max() <= len(labels) for of in chosen.values()):
        raise ValueError(f"{root / 'setid.mat'} names pictures that imagelabels.mat has not")
    return {
        split: [(f"jpg/image_{number:05d}.jpg", int(labels[number - 1])) for number in numbers.tolist()]
        for split, numbers in chosen.items()
    }


def _dogs(root: Path) -> dict[str, Rows]:
    splits = {}
    for split in ("train", "test"):
        path = root / f"{split}_list.mat"
        files, labels = _mat(path, "file_list", "labels")
        if len(files) != len(labels):
            raise ValueError(f"{path} has {len(files)} files and {len(labels)} labels")
        splits[split] = [(str(file), int(label)) for file, label in zip(files, labels, strict=True)]
    return splits


def _cars(root: Path) -> dict[str, Rows]:
    """Read Stanford Cars; the labels of its test came later, in a file beside the devkit."""
    splits = {}
    for split, file in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        (notes,) = _mat(root / file, "annotations")
        if not {"fname", "class"} <= set(notes.dtype.names or ()):
            raise ValueError(f"{root / file}: its annotations lack fname or class")
        splits[split] = [(f"cars_{split}/{note['fname']}", int(note["class"])) for note in notes]
    return splits


_LISTS = ("images.txt", "image_class_labels.txt", "train_test_split.txt")
_BIRDS = Form("images", _LISTS, f"images/, {', '.join(_LISTS)}", _listed)
FORMS = {
    "cub": _BIRDS,
    "nabirds": _BIRDS,
    "flowers": Form("", ("imagelabels.mat", "setid.mat"), "jpg/, imagelabels.mat, setid.mat", _flowers),
    "dogs": Form(
        "Images", ("train_list.mat", "test_list.mat"), "Images/<breed>/, train_list.mat, test_list.mat", _dogs
    ),
    "cars": Form(
        "",
        ("devkit/cars_train_annos.mat", "cars_test_annos_withlabels.mat"),
        "cars_train/, cars_test/, devkit/cars_train_annos.mat, cars_test_annos_withlabels.mat",
        _cars,
    ),
}


def read_json(root: Path) -> dict[str, Rows]:
    """Read VPT's splits: each file maps a picture's path to its class id.

    Raises:
        ValueError: if a file is no such mapping.
    """
    splits = {}
    for file in JSON:
        try:
            content = json.loads((root / file).read_text())
            # Two kinds of id have no common order.
            whole = isinstance(content, dict) and len({type(value) for value in content.values()}) == 1
        except ValueError:
            whole = False
        if not whole or not isinstance(next(iter(content.values())), int | str):
            raise ValueError(f"{root / file} does not map picture paths to class ids")
        splits[file.removesuffix(".json")] = list(content.items())
    return splits


def contiguous(splits: dict[str, Rows]) -> dict[str, tuple[list[str], NDArray[np.int64]]]:
    """Return the paths and labels int64 [n] of every split, all ids sorted and counted from 0 without gaps.

    VPT numbers each split by itself, which shifts the labels of a split that lacks a class.
    """
    ids = sorted({label for rows in splits.values() for _, label in rows}, key=lambda label: (str(type(label)), label))
    place = {label: number for number, label in enumerate(ids)}
    return {
        name: ([path for path, _ in rows], np.array([place[label] for _, label in rows], np.int64))
        for name, rows in splits.items()
    }
