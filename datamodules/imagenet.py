"""ImageNet's folders as distributed, to read the logits of a network trained on it (neural_dependency §3.3)."""

from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from common.ranges import NonNegativeInt, PositiveFraction, PositiveInt, Range
from datamodules.base import BaseDataModule, digest
from datamodules.formats.folders import class_folders, pictures
from datamodules.pictures import Pictures
from datamodules.transforms import check_input, crop_flip, resize_crop

Interpolation = Literal["bilinear", "bicubic"]
Listed = tuple[list[Path], NDArray[np.int64]]
LAYOUT = "expected there: train/<wnid>/*.JPEG and val/<wnid>/*.JPEG, a folder for each class"


def data_config(network: str) -> tuple[list[float], list[float], float, Interpolation]:
    """Return mean, deviation, crop share and interpolation that a timm model was trained with.

    Raises:
        ValueError: if timm has no such model.
    """
    from timm.data import resolve_data_config
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(network)
    if config is None:
        raise ValueError(f"data.network is {network!r}, which timm has no data config of")
    told = resolve_data_config(pretrained_cfg=config.to_dict(), verbose=False)
    # Some models name a random interpolation, which is for training only.
    interpolation: Interpolation = "bilinear" if told["interpolation"] == "bilinear" else "bicubic"
    return list(told["mean"]), list(told["std"]), float(told["crop_pct"]), interpolation


class ImageNet(BaseDataModule):
    """Folders `train/<wnid>/` and `val/<wnid>/`; class k is the k-th wnid in sorted order, as timm numbers them.

    "moments" are the pictures that second moments are taken from and "test" those that everything is measured on. With
    `moments_from` "val", both are halves of the official validation set (cut within every class by `split_seed`); with
    "train", "moments" are `moments_size` training pictures, as many of each class as there are, and "test" is the whole
    official validation set. "fit" and "val" serve a fine-tuning: "fit" is the training set less the pictures of
    "moments", and "val" is "moments", so that nothing is ever chosen on "test".

    Args:
        batch_size: the GLOBAL batch.
        num_workers: loader processes of each rank.
        seed: seed of the sample order and of the augmentation.
        root: folder that holds `train/` and `val/`; only what is read has to be there.
        num_classes: number of classes.
        moments_from: "val" or "train".
        moments_size: pictures of "moments" with `moments_from` "train"; their second moments have this rank at most.
        split_seed: seed of the choice of these.
        ood_root: folder `imagenet-o` with a folder for each class, tested as "imagenet_o", or null.
        network: timm model whose data config tells `crop_pct` and `interpolation`, and where they are null `mean` and
            `std`; or null to take the first two as they stand.
        channels: colour channels of an image.
        image_size: side of the images the network sees.
        crop_pct: the share of the shorter side that the middle crop keeps, as in timm.
        interpolation: how pictures are resized, "bilinear" or "bicubic".
        mean: what is taken from each channel, in 0..1, or null (with `std`) for that of the backbone's pre-training.
        std: what each channel is then divided by.
    """

    offers: ClassVar = {"images": "", "color images": "", "classes": ""}

    def __init__(
        self,
        *,
        batch_size: PositiveInt = 256,
        num_workers: NonNegativeInt = 4,
        seed: NonNegativeInt = 0,
        root: str = "data/imagenet",
        num_classes: Annotated[int, Range(low=2)] = 1000,
        moments_from: Literal["val", "train"] = "val",
        moments_size: PositiveInt = 50000,
        split_seed: NonNegativeInt = 0,
        ood_root: str | None = None,
        network: str | None = None,
        channels: Literal[3] = 3,
        image_size: PositiveInt = 224,
        crop_pct: PositiveFraction = 0.875,
        interpolation: Interpolation = "bicubic",
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        if network:
            own_mean, own_std, crop_pct, interpolation = data_config(network)
            mean, std = mean or own_mean, std or own_std
        self.statistics = check_input(channels, image_size, mean, std)
        if moments_from not in {"val", "train"}:
            raise ValueError(f"data.moments_from is {moments_from!r}, should be val or train")
        if moments_size < num_classes:
            raise ValueError(
                f"data.moments_size is {moments_size} for {num_classes} classes: every class needs a picture"
            )
        self.root, self.num_classes, self.split_seed = Path(root), num_classes, split_seed
        self.moments_from, self.moments_size = moments_from, moments_size
        self.ood_root = Path(ood_root) if ood_root else None
        self.image_shape = (channels, image_size, image_size)
        self.crop_pct, self.interpolation = crop_pct, interpolation
        self.ood_names = ["imagenet_o"] if ood_root else []
        self.test_names = ["moments", "test", *self.ood_names]

    def check(self) -> None:
        """Raise FileNotFoundError if folders are not there, ValueError if they hold other classes."""
        for name in ("val", "train") if self.moments_from == "train" else ("val",):
            if not (self.root / name).is_dir():
                raise FileNotFoundError(f"no {name} under data.root={self.root}; {LAYOUT}")
            wnids = class_folders(self.root / name)
            if len(wnids) != self.num_classes:
                raise ValueError(
                    f"data.num_classes is {self.num_classes}, but {self.root / name} has {len(wnids)} class folders"
                )
        if self.ood_root and not pictures(self.ood_root):
            raise FileNotFoundError(f"no pictures under data.ood_root={self.ood_root}; expected there: <wnid>/*.JPEG")
        if not min(len(self._splits[name][0]) for name in ("moments", "test")):
            raise FileNotFoundError(f"too few pictures under data.root={self.root} for two splits; {LAYOUT}")

    def class_names(self) -> list[str]:
        """Return the wnid of every class, in the order of the labels."""
        return class_folders(self.root / "val")

    def _listed(self, folder: str) -> Listed:
        """Return all pictures of a folder, sorted, and their classes."""
        numbers = {wnid: k for k, wnid in enumerate(self.class_names())}
        paths = pictures(self.root / folder)
        strange = next((path for path in paths if path.parent.name not in numbers), None)
        if strange is not None:
            raise ValueError(f"{strange} is of a class that {self.root / 'val'} has not")
        return paths, np.array([numbers[path.parent.name] for path in paths], np.int64)

    def _cut(self, listed: Listed, per_class: int | None) -> tuple[Listed, Listed]:
        """Return `per_class` pictures of every class (half of them for null), drawn by seed, and all others."""
        paths, labels = listed
        rng = np.random.default_rng(self.split_seed)
        taken = np.zeros(len(paths), bool)
        for number in range(self.num_classes):
            members = rng.permutation(np.flatnonzero(labels == number))
            taken[members[: len(members) // 2 if per_class is None else per_class]] = True
        first, other = np.flatnonzero(taken), np.flatnonzero(~taken)
        return ([paths[k] for k in first], labels[first]), ([paths[k] for k in other], labels[other])

    @cached_property
    def _splits(self) -> dict[str, Listed]:
        """Pictures and labels of "moments" and "test", and of "fit" where it is cut from the same folder."""
        if self.moments_from == "val":
            moments, test = self._cut(self._listed("val"), None)
            return {"moments": moments, "test": test}
        moments, fit = self._cut(self._listed("train"), self.moments_size // self.num_classes)
        return {"moments": moments, "fit": fit, "test": self._listed("val")}

    def source(self, name: str) -> Pictures:
        """Return "fit" (augmented), "val" (the pictures of "moments"), or one of `test_names`."""
        if name == "imagenet_o":
            assert self.ood_root is not None
            paths = pictures(self.ood_root)
            listed = (paths, np.full(len(paths), self.num_classes))
        elif name == "fit" and self.moments_from == "val":
            listed = self._listed("train")
        else:
            listed = self._splits["moments" if name == "val" else name]
        size = self.image_shape[1]
        if name == "fit":
            return Pictures(*listed, crop_flip(size))
        return Pictures(*listed, resize_crop(size, self.crop_pct, self.interpolation))

    def fingerprint(self) -> str:
        """Return a hash of the pictures' names in every split, and of how they are prepared."""
        names = {name: [path.name for path in paths] for name, (paths, _) in self._splits.items()}
        ood = [path.name for path in pictures(self.ood_root)] if self.ood_root else []
        prepared = (self.image_shape, self.crop_pct, self.interpolation, self.statistics)
        return digest("imagenet", self.moments_from, self.split_seed, prepared, names, ood)
