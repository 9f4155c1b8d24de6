"""Open-set recognition on CIFAR-100 at paper scale, with ODIN's unknown data sets (uosr §2.4, §2.5, §3.3)."""

from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from common.ranges import NonNegativeInt, PositiveInt
from datamodules.base import BaseDataModule, digest
from datamodules.formats.cifar import read_cifar100
from datamodules.formats.folders import pictures, read_pictures, tiny_imagenet_val
from datamodules.memory import Augmented, Images, mapped, not_among
from datamodules.transforms import check_input, to_signed

CIFAR = "cifar-100-python"
OOD_FOLDERS = {"tiny_imagenet": "Imagenet_resize", "lsun": "LSUN_resize"}
TINY_IMAGENET = "tiny-imagenet-200"
OUTLIERS = "300K_random_images.npy"
LAYOUT = {
    CIFAR: f"{CIFAR}/{{train,test,meta}}",
    **{folder: f"{folder}/*/*.png" for folder in OOD_FOLDERS.values()},
    TINY_IMAGENET: f"{TINY_IMAGENET}/{{wnids.txt,val/val_annotations.txt,val/images/*.JPEG}}",
    OUTLIERS: OUTLIERS,
}


def _augmentation(size: int, *, channels_last: bool) -> Callable[[Tensor], Tensor]:
    """Return Resize, RandomCrop, HFlip, to -1..1; 160 to 128 there (uosr §2.4), in proportion elsewhere."""
    steps = [v2.Resize(size * 5 // 4, antialias=True), v2.RandomCrop(size), v2.RandomHorizontalFlip()]
    return to_signed([partial(torch.permute, dims=(2, 0, 1)), *steps] if channels_last else steps)


class Cifar100OpenSet(BaseDataModule):
    """CIFAR-100 as the known classes; resized Tiny ImageNet and LSUN as the unknown ones.

    Few-shot references are Tiny ImageNet's validation pictures at 32 x 32; those that the unknown test holds too, by
    pixels, are left out. Labels of the unknown test images are -1.

    Args:
        batch_size: the GLOBAL batch; as many outliers come beside it.
        num_workers: loader processes of each rank.
        seed: seed of the sample order and of the augmentation.
        root: folder that holds the data sets as distributed.
        ood: the unknown data sets to test on.
        references: whether to test few-shot references too; they belong to "tiny_imagenet".
        outliers: whether training batches hold images of `300K_random_images.npy`.
        num_known: classes of CIFAR-100.
        channels: colour channels of an image.
        image_size: side of the images the network sees; they are resized to 5/4 of it before the random crop.
        mean: what is taken from each channel, in 0..1, or null (with `std`) for that of the backbone's pre-training.
        std: what each channel is then divided by.
        val_size: training images held out for validation, the same number of every class.
        split_seed: seed of the choice of these.
    """

    offers: ClassVar = {
        "images": "",
        "color images": "",
        "classes": "",
        "unknown classes": "",
        "outliers": "outliers=true",
    }

    def __init__(
        self,
        *,
        batch_size: PositiveInt = 128,
        num_workers: NonNegativeInt = 4,
        seed: NonNegativeInt = 0,
        root: str = "data",
        ood: list[Literal["tiny_imagenet", "lsun"]] | None = None,
        references: bool = True,
        outliers: bool = False,
        num_known: Literal[100] = 100,
        channels: Literal[3] = 3,
        image_size: PositiveInt = 128,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        val_size: PositiveInt = 2500,
        split_seed: NonNegativeInt = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        self.root, self.num_known, self.val_size, self.split_seed = Path(root), num_known, val_size, split_seed
        self.image_shape = (channels, image_size, image_size)
        self.statistics = check_input(channels, image_size, mean, std)
        self.ood_names: list[str] = list(ood or OOD_FOLDERS)
        if references and "tiny_imagenet" not in self.ood_names:
            raise ValueError("data.references=true needs tiny_imagenet in data.ood: the references are of its classes")
        if val_size % num_known:
            raise ValueError(f"data.val_size is {val_size}, should be a multiple of {num_known}")
        self._read: dict[str, NDArray[np.uint8]] = {}
        self.reference_ood = "tiny_imagenet" if references else None
        self.beside = ("outlier",) if outliers else ()
        self.test_names = ["train", "known", *self.ood_names, *(["references"] if references else [])]

    def _needed(self) -> dict[str, list[Path]]:
        """Return the files and folders that have to be there, under the name of their data set."""
        needed = {CIFAR: [Path(CIFAR, name) for name in ("train", "test", "meta")]}
        needed |= {OOD_FOLDERS[name]: [Path(OOD_FOLDERS[name])] for name in self.ood_names}
        if self.reference_ood:
            needed[TINY_IMAGENET] = [
                Path(TINY_IMAGENET, p) for p in ("wnids.txt", "val/val_annotations.txt", "val/images")
            ]
        if self.beside:
            needed[OUTLIERS] = [Path(OUTLIERS)]
        return {name: [self.root / path for path in paths] for name, paths in needed.items()}

    def check(self) -> None:
        """Raise FileNotFoundError if a data set is not there, with what is expected and where."""
        needed = self._needed()
        missing = [name for name, paths in needed.items() if not all(path.exists() for path in paths)]
        missing += [f for f in needed if f in OOD_FOLDERS.values() and f not in missing and not pictures(self.root / f)]
        if missing:
            layout = ", ".join(LAYOUT[name] for name in needed)
            raise FileNotFoundError(f"no {', '.join(missing)} under data.root={self.root}; expected there: {layout}")

    def fingerprint(self) -> str:
        """Return a hash of the names and sizes of the files, and of the split."""
        paths = [path for needed in self._needed().values() for path in needed]
        sizes = {str(p.relative_to(self.root)): p.stat().st_size for p in paths if p.is_file()}
        counts = {name: len(pictures(self.root / OOD_FOLDERS[name])) for name in self.ood_names}
        prepared = (self.image_shape, self.statistics, self.val_size, self.split_seed, self.test_names)
        return digest("cifar100", prepared, sizes, counts)

    def _resized(self, pixels: NDArray[np.uint8], labels: NDArray[Any]) -> Images:
        return Images(pixels, labels, resize=v2.Resize(self.image_shape[1], antialias=True))

    @cached_property
    def _known(self) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        pixels, labels = read_cifar100(self.root / CIFAR / "train")
        rng = np.random.default_rng(self.split_seed)
        per_class = self.val_size // self.num_known
        members = [rng.permutation(np.flatnonzero(labels == number)) for number in range(self.num_known)]
        val = np.sort(np.concatenate([of_class[:per_class] for of_class in members]))
        train = np.setdiff1d(np.arange(len(labels)), val)
        return {"train": (pixels[train], labels[train]), "val": (pixels[val], labels[val])}

    def _unknown(self, name: str) -> NDArray[np.uint8]:
        """Return an unknown data set, read once however often it is asked for."""
        if name not in self._read:
            self._read[name] = read_pictures(pictures(self.root / OOD_FOLDERS[name]), 32)
        return self._read[name]

    def _references(self) -> Images:
        paths, labels = tiny_imagenet_val(self.root / TINY_IMAGENET)
        pixels = read_pictures(paths, 32)
        kept = not_among(pixels, self._unknown("tiny_imagenet"))
        if not kept.all():
            rank_zero_info(f"{(~kept).sum()} references left out: the unknown test images hold the same pixels")
        return self._resized(pixels[kept], labels[kept])

    def _outliers(self) -> Augmented:
        path = self.root / OUTLIERS
        images = mapped(path)
        if images.ndim != 4 or images.shape[1:] != (32, 32, 3) or images.dtype != np.uint8:
            raise ValueError(f"{path} holds {images.dtype} {list(images.shape)}, should be uint8 [n, 32, 32, 3]")
        transform = _augmentation(self.image_shape[1], channels_last=True)
        return Augmented(path, np.full(len(images), -1), transform)

    def source(self, name: str) -> Dataset[Any]:
        """Return a data set; only what is asked for is read."""
        if name == "fit":
            pixels, labels = self._known["train"]
            return Augmented(pixels, labels, _augmentation(self.image_shape[1], channels_last=False))
        if name == "outlier":
            return self._outliers()
        if name == "references":
            return self._references()
        if name == "known":
            return self._resized(*read_cifar100(self.root / CIFAR / "test"))
        if name in OOD_FOLDERS:
            pixels = self._unknown(name)
            return self._resized(pixels, np.full(len(pixels), -1))
        return self._resized(*self._known[name])
