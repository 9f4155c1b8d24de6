"""Score files as the official repository ships them: `.npz`, one score on known and unknown test samples.

A plain file holds ind_unctt, ind_pred, ind_label [n] and ood_unctt, ood_pred, ood_label [m]. A few-shot file holds the
parts of FS-KNNS: d_in, d_ood, d_train, d_ood_fs [tries, samples] and msp_in, msp_ood. Ours add the labels to it, and
msp_train and msp_ood_fs, without which u0 can only be scaled by the test samples.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np

Arrays = dict[str, np.ndarray]

PLAIN = ("ind_unctt", "ood_unctt", "ind_pred", "ood_pred", "ind_label", "ood_label")
FEW_SHOT = ("d_in", "d_ood", "d_train", "d_ood_fs", "msp_in", "msp_ood")
LABELS = ("ind_pred", "ind_label", "ood_label")
SCALES = ("msp_train", "msp_ood_fs")
# Columns that must be of one length: the known test samples, and the unknown ones.
_IND = ("ind_unctt", "ind_pred", "ind_label", "d_in", "msp_in")
_OOD = ("ood_unctt", "ood_pred", "ood_label", "d_ood", "msp_ood")
# HMDB51's classes that UCF101 has too; they are no unknown classes (code: uosr_evaluation_video_sc.py).
UCF_HMDB_OVERLAP = (35, 29, 15, 26, 30, 34, 43, 31)


class ScoreFile(NamedTuple):
    """Arrays of a score file.

    Attributes:
        path: where they were read.
        few_shot: whether they are the parts of FS-KNNS (`FEW_SHOT`) or one score (`PLAIN`).
        arrays: by their official names; few-shot distances are [tries, samples].
    """

    path: Path
    few_shot: bool
    arrays: Arrays

    def correct(self) -> np.ndarray:
        """Return bool [n], whether a known test sample is rightly classified.

        Raises:
            ValueError: if the file has no predictions or labels.
        """
        require(self.path, self.arrays, ("ind_pred", "ind_label"))
        return self.arrays["ind_pred"] == self.arrays["ind_label"]

    def without_ood_labels(self, labels: Collection[int]) -> "ScoreFile":
        """Return the file without the unknown test samples of these classes.

        Raises:
            ValueError: if the file has no labels of unknown samples.
        """
        require(self.path, self.arrays, ("ood_label",))
        kept = ~np.isin(self.arrays["ood_label"], list(labels))
        cut = {name: self.arrays[name][..., kept] for name in _OOD if name in self.arrays}
        return self._replace(arrays=self.arrays | cut)


def read_score_file(path: Path) -> ScoreFile:
    """Read a plain or a few-shot score file; pickled objects are never loaded.

    Raises:
        ValueError: in one line, if the file is not there, is no `.npz`, lacks arrays or has arrays that do not fit.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise ValueError(f"{path}: there is no such file") from error
    except (OSError, BadZipFile, EOFError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"{path}: not an .npz file of plain arrays") from error
    few_shot = "d_in" in arrays
    require(path, arrays, FEW_SHOT if few_shot else PLAIN)
    wanted = {*PLAIN, *FEW_SHOT, *SCALES} if few_shot else set(PLAIN)
    arrays = {name: array for name, array in arrays.items() if name in wanted}
    arrays |= {name: np.atleast_2d(arrays[name]) for name in arrays if name.startswith("d_") or name in SCALES}
    _check_lengths(path, arrays)
    return ScoreFile(path, few_shot, arrays)


def write_score_file(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write the arrays (or CPU tensors) of a plain or a few-shot score file, by their official names.

    Raises:
        ValueError: if arrays are missing or have different lengths.
    """
    plain = {name: np.asarray(array) for name, array in arrays.items()}
    require(path, plain, FEW_SHOT if "d_in" in plain else PLAIN)
    _check_lengths(path, plain)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez_compressed(file, **plain)  # type: ignore[arg-type]


def require(path: Path, arrays: Arrays, names: Collection[str]) -> None:
    """Raise ValueError, naming what is missing and what is there, unless all names are there."""
    missing = [name for name in names if name not in arrays]
    if missing:
        there = ", ".join(sorted(arrays)) or "nothing"
        raise ValueError(f"{path}: no {', '.join(missing)} in this score file (it holds {there})")


def _check_lengths(path: Path, arrays: Arrays) -> None:
    for group in (_IND, _OOD):
        lengths = {name: arrays[name].shape[-1] if arrays[name].ndim else 1 for name in group if name in arrays}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise ValueError(f"{path}: arrays of different lengths: {listed}")
    tries = {name: len(array) for name, array in arrays.items() if array.ndim == 2 and len(array) > 1}
    if len(set(tries.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in tries.items())
        raise ValueError(f"{path}: different numbers of tries: {listed}")
