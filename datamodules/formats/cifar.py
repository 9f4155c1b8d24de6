"""CIFAR as distributed: `cifar-100-python/{train,test,meta}`, `cifar-10-batches-py/data_batch_1` and its like.

They are pickles of Python 2, read without running any code.

Source: https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def _latin1(text: str, encoding: str) -> bytes:
    """Stand in for `_codecs.encode`, by which Python 3 writes bytes in protocol 2; it knows one encoding only."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"refused: encoding {encoding!r}")
    return text.encode("latin1")


def _array(kind: type, shape: tuple[int, ...], dtype: bytes | str) -> NDArray[Any]:
    """Stand in for numpy's `_reconstruct`: an empty array that the pickle then fills."""
    if kind is not np.ndarray or shape != (0,):
        raise pickle.UnpicklingError(f"refused: an array of kind {kind!r} and shape {shape!r}")
    return np.ndarray(shape, dtype.decode() if isinstance(dtype, bytes) else dtype)


_ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _array,
    ("numpy._core.multiarray", "_reconstruct"): _array,
    ("_codecs", "encode"): _latin1,
}


class PlainUnpickler(pickle.Unpickler):
    """Unpickler of numbers, texts, lists, mappings and numeric arrays; everything else is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the few things that a pickled array needs."""
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"refused: the file asks for {module}.{name}") from None


def read_plain_pickle(path: Path) -> dict[str, Any]:
    """Return a pickled mapping with text keys.

    Raises:
        ValueError: if the file is no pickle, is cut off, or holds anything but plain values and arrays.
    """
    try:
        with path.open("rb") as file:
            content = PlainUnpickler(file, encoding="latin1").load()
        return {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in content.items()}
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - a broken pickle can raise any kind
        reason = str(error) or type(error).__name__
        raise ValueError(f"{path} is not a file of CIFAR as distributed: {reason}") from None


def read_cifar100(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read the images and the fine labels of `train` or `test`; see `_read`, labels are in 0..99."""
    return _read(path, "CIFAR-100", "fine_labels", 100)


def read_cifar10(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read the images and the labels of `data_batch_1` and its like; see `_read`, labels are in 0..9."""
    return _read(path, "CIFAR-10", "labels", 10)


def _read(path: Path, name: str, key: str, classes: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read images and labels.

    Returns:
        Images uint8 [n, 3, 32, 32] and labels int64 [n].

    Raises:
        ValueError: if the file does not hold them.
    """
    content = read_plain_pickle(path)
    data, labels = content.get("data"), np.asarray(content.get(key, []))
    pixels: NDArray[Any] = data if isinstance(data, np.ndarray) else np.empty(0)
    are_images = pixels.dtype == np.uint8 and pixels.shape == (len(labels), 3072)
    are_labels = labels.dtype.kind == "i" and len(labels) > 0 and 0 <= labels.min() <= labels.max() < classes
    if not are_images or not are_labels:
        raise ValueError(f"{path} is not a file of {name} as distributed: data [n, 3072] and {key} [n] expected")
    return pixels.reshape(-1, 3, 32, 32), labels.astype(np.int64)
