"""Pictures without labels, to learn to make more of them: folders, shards, FFHQ, LSUN, CIFAR-10 (dvdp §3.4).

"fit" is trained on; "val" is held out; "test" is what generated pictures are compared with, which by the field's custom
are training pictures, here without flips.
"""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset
from torchvision.transforms import v2

from common.ranges import NonNegativeInt, PositiveInt
from datamodules.base import BaseDataModule, digest
from datamodules.formats.cifar import read_cifar10
from datamodules.formats.folders import PICTURES
from datamodules.formats.lsun import LsunPictures, keys
from datamodules.formats.shards import ShardPictures, index, shards
from datamodules.memory import Augmented, Images
from datamodules.pictures import Pictures
from datamodules.transforms import Transform, resize_crop


class Generative(BaseDataModule):
    """What the data sets share: the splits, and the square crop of the middle in -1..1.

    Args:
        batch_size: the GLOBAL batch.
        num_workers: loader processes of each rank.
        seed: seed of the sample order and of the flips.
        root: folder of the data.
        channels: colour channels of an image.
        image_size: side of the images; pictures are resized (bicubic, antialiased) and cropped to the middle.
        flip: whether half of the training pictures are mirrored.
        val_size: pictures held out.
        reference_size: pictures that generated ones are compared with, or null for all that are trained on.
        split_seed: seed of the choice of both.
    """

    offers: ClassVar = {"images": "", "color images": ""}

    def __init__(
        self,
        *,
        batch_size: PositiveInt = 64,
        num_workers: NonNegativeInt = 4,
        seed: NonNegativeInt = 0,
        root: str = "data",
        channels: Literal[3] = 3,
        image_size: PositiveInt = 256,
        flip: bool = True,
        val_size: PositiveInt = 1000,
        reference_size: PositiveInt | None = None,
        split_seed: NonNegativeInt = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        self.root, self.image_shape, self.flip = Path(root), (channels, image_size, image_size), flip
        self.val_size, self.reference_size, self.split_seed = val_size, reference_size, split_seed
        self.test_names = ["test"]

    def count(self) -> int:
        """Return how many pictures there are to be divided into "fit" and "val"."""
        raise NotImplementedError

    @cached_property
    def splits(self) -> dict[str, NDArray[np.int64]]:
        """The places of the pictures of every split, rising."""
        order = np.random.default_rng(self.split_seed).permutation(self.count())
        if len(order) <= self.val_size:
            raise ValueError(f"data.val_size is {self.val_size}, but there are {len(order)} pictures under {self.root}")
        fit = order[self.val_size :]
        found = {"fit": fit, "val": order[: self.val_size], "test": fit[: self.reference_size]}
        return {name: np.sort(places) for name, places in found.items()}

    def transform(self, name: str) -> Transform:
        """Return what is done to the pictures of a split."""
        square = resize_crop(self.image_shape[1], 1.0, "bicubic")
        return v2.Compose([square, v2.RandomHorizontalFlip()]) if self.flip and name == "fit" else square

    def described(self, *more: Any) -> str:
        """Return a hash of the splits and of what is done to pictures."""
        prepared = (self.image_shape, self.flip, self.val_size, self.reference_size, self.split_seed)
        return digest(type(self).__name__, prepared, *more)


class PictureFolder(Generative):
    """All pictures (png, jpg, jpeg) in a folder and the folders in it; FFHQ's `images1024x1024` is one."""

    def check(self) -> None:
        """Raise FileNotFoundError if there is no picture."""
        if not self._paths:
            raise FileNotFoundError(
                f"no pictures under data.root={self.root}; expected there: *.png, *.jpg or *.jpeg, in folders or not"
                " (FFHQ: images1024x1024/00000/00000.png to 69000/69999.png)"
            )
        _ = self.splits

    @cached_property
    def _paths(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*") if path.suffix.lower() in PICTURES)

    def count(self) -> int:
        """Return the number of pictures."""
        return len(self._paths)

    def source(self, name: str) -> Pictures:
        """Return "fit", "val" or "test"."""
        places = self.splits[name]
        return Pictures([self._paths[k] for k in places], np.zeros(len(places), np.int64), self.transform(name))

    def fingerprint(self) -> str:
        """Return a hash of the pictures' names and of what is done to them."""
        return self.described([str(path.relative_to(self.root)) for path in self._paths])


class PictureShards(Generative):
    """Pictures in shards of WebDataset, `root`/*.tar."""

    def check(self) -> None:
        """Raise FileNotFoundError if there is no shard, ValueError if one is not whole."""
        if not self._paths:
            raise FileNotFoundError(
                f"no shards at data.root={self.root}; expected there: 00000.tar, 00001.tar, ... with pictures in them"
                " (png, jpg, jpeg, webp), as img2dataset writes them"
            )
        _ = self.splits

    @cached_property
    def _paths(self) -> list[Path]:
        return shards(self.root)

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        return index(self._paths)

    def count(self) -> int:
        """Return the number of pictures."""
        return len(self._places)

    def source(self, name: str) -> ShardPictures:
        """Return "fit", "val" or "test"."""
        return ShardPictures(self._paths, self._places[self.splits[name]], self.transform(name))

    def fingerprint(self) -> str:
        """Return a hash of the shards' names, of where pictures lie in them, and of what is done to the pictures."""
        return self.described([path.name for path in self._paths], hashlib.sha256(self._places.tobytes()).hexdigest())


class Lsun(Generative):
    """A category of LSUN: `root` is its database, such as `church_outdoor_train_lmdb`; "val" is held out of it."""

    def check(self) -> None:
        """Raise FileNotFoundError if the database is not there."""
        if not (self.root / "data.mdb").is_file():
            raise FileNotFoundError(
                f"no database of LSUN at data.root={self.root}; expected there: data.mdb, as in"
                " church_outdoor_train_lmdb of the distribution"
            )
        _ = self.splits

    def count(self) -> int:
        """Return the number of pictures."""
        return len(keys(self.root))

    def source(self, name: str) -> LsunPictures:
        """Return "fit", "val" or "test"."""
        return LsunPictures(self.root, self.splits[name], self.transform(name))

    def fingerprint(self) -> str:
        """Return a hash of the keys' number and ends, and of what is done to the pictures."""
        known = keys(self.root)
        return self.described(len(known), known[:1], known[-1:])


class Cifar10(Generative):
    """CIFAR-10's training pictures, 32 x 32 in `cifar-10-batches-py/`."""

    _FILES = tuple(f"data_batch_{k}" for k in range(1, 6))

    def check(self) -> None:
        """Raise FileNotFoundError if a file is not there, ValueError for another size of images."""
        folder = self.root / "cifar-10-batches-py"
        if not all((folder / name).is_file() for name in self._FILES):
            raise FileNotFoundError(
                f"no {folder.name} under data.root={self.root}; expected there: {folder.name}/data_batch_1 to _5"
            )
        if self.image_shape[1] != 32:
            raise ValueError(f"data.image_size is {self.image_shape[1]}, but CIFAR-10 has 32")
        _ = self.splits

    @cached_property
    def _pixels(self) -> NDArray[np.uint8]:
        return np.concatenate([read_cifar10(self.root / "cifar-10-batches-py" / name)[0] for name in self._FILES])

    def count(self) -> int:
        """Return the number of pictures."""
        return len(self._pixels)

    def source(self, name: str) -> Dataset[Any]:
        """Return "fit", "val" or "test"."""
        places = self.splits[name]
        pixels, labels = self._pixels[places], np.zeros(len(places), np.int64)
        return Augmented(pixels, labels, self.transform(name)) if name == "fit" else Images(pixels, labels)

    def fingerprint(self) -> str:
        """Return a hash of the files' sizes and of what is done to the pictures."""
        sizes = [(self.root / "cifar-10-batches-py" / name).stat().st_size for name in self._FILES]
        return self.described(sizes)
