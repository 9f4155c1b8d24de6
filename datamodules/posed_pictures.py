"""Pictures of objects with the camera of each, to learn to make more of them in 3D: EG3D's data sets.

Pictures without cameras, for models that draw the cameras themselves, are `datamodules.generative.PictureFolder`.
"""

import hashlib
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from common.ranges import NonNegativeInt, PositiveInt
from datamodules.formats.eg3d import LABELS, LAYOUT, PosedPictures, Store, read_cameras
from datamodules.generative import Generative
from datamodules.loading import Batch
from datamodules.transforms import Transform, resize_crop

# On the z axis, 2.7 before the origin; the focal length and the middle are in units of the picture's side.
_MATRIX = [1.0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, -2.7, 0, 0, 0, 1]
_INTRINSICS = [4.2647, 0, 0.5, 0, 4.2647, 0.5, 0, 0, 1]


class Eg3dPictures(Generative):
    """Pictures with cameras in EG3D's format: `root` is a .zip file or a folder; batches hold `camera` [b, 25] too.

    Args:
        batch_size: the GLOBAL batch.
        num_workers: loader processes of each rank.
        seed: seed of the sample order and of the flips.
        root: the .zip file or the folder, with `dataset.json` at its top.
        channels: colour channels of an image.
        image_size: side of the images; pictures, which are square, are resized (bicubic, antialiased).
        flip: whether half of the training pictures are mirrored, with their cameras; EG3D's FFHQ holds the mirrored
            pictures already.
        val_size: pictures held out.
        reference_size: pictures that generated ones are compared with, or null for all that are trained on.
        split_seed: seed of the choice of both.
    """

    offers: ClassVar = {"images": "", "color images": "", "cameras": ""}

    def __init__(
        self,
        *,
        batch_size: PositiveInt = 32,
        num_workers: NonNegativeInt = 4,
        seed: NonNegativeInt = 0,
        root: str = "data",
        channels: Literal[3] = 3,
        image_size: PositiveInt = 256,
        flip: bool = False,
        val_size: PositiveInt = 1000,
        reference_size: PositiveInt | None = None,
        split_seed: NonNegativeInt = 0,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
            root=root,
            channels=channels,
            image_size=image_size,
            flip=flip,
            val_size=val_size,
            reference_size=reference_size,
            split_seed=split_seed,
        )
        self._store = Store(self.root)

    def check(self) -> None:
        """Raise FileNotFoundError if pictures or `dataset.json` are not there, ValueError if it lacks a camera."""
        if not (self.root.is_file() or self.root.is_dir()):
            raise FileNotFoundError(f"no data set of EG3D at data.root={self.root}; expected there: {LAYOUT}")
        if LABELS not in self._store.names:
            raise FileNotFoundError(f"no {LABELS} at the top of data.root={self.root}; expected there: {LAYOUT}")
        if not self.count():
            raise FileNotFoundError(f"no pictures in data.root={self.root}; expected there: {LAYOUT}")
        _ = self.splits

    @cached_property
    def _known(self) -> tuple[list[str], NDArray[np.float32]]:
        return read_cameras(self._store)

    def count(self) -> int:
        """Return the number of pictures."""
        return len(self._known[0])

    def transform(self, name: str) -> Transform:
        """Return what is done to the pictures of a split; they are mirrored where their cameras are known."""
        return resize_crop(self.image_shape[1], 1.0, "bicubic")

    def source(self, name: str) -> PosedPictures:
        """Return "fit", "val" or "test"."""
        places, (names, cameras) = self.splits[name], self._known
        chosen = [names[k] for k in places]
        flip = self.flip and name == "fit"
        return PosedPictures(self._store, chosen, cameras[places], self.transform(name), flip=flip)

    def fake_batch(self, size: int) -> Batch:
        """Return empty pictures, each seen from the front."""
        return super().fake_batch(size) | {"camera": torch.tensor(_MATRIX + _INTRINSICS).repeat(size, 1)}

    def fingerprint(self) -> str:
        """Return a hash of the pictures' names, of their cameras, and of what is done to them."""
        names, cameras = self._known
        return self.described(names, hashlib.sha256(cameras.tobytes()).hexdigest())
