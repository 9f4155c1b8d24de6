"""Pictures as stylegan2-ada-pytorch's dataset_tool.py packs them, with classes or without."""

import hashlib
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from datamodules.formats.eg3d import Store
from datamodules.formats.picture_zips import LAYOUT, StoredPictures, read_classes
from datamodules.generative import Generative


class PictureZip(Generative):
    """All pictures of a .zip file, or of a folder of the same layout; classes, if any, are the batch's `label`."""

    @cached_property
    def _store(self) -> Store:
        return Store(self.root)

    @cached_property
    def _known(self) -> tuple[list[str], NDArray[np.int64]]:
        return read_classes(self._store)

    def check(self) -> None:
        """Raise FileNotFoundError if there is no picture, ValueError if the file or its labels are broken."""
        if not (self.root.is_file() or self.root.is_dir()):
            raise FileNotFoundError(f"no pictures at data.root={self.root}; expected there: {LAYOUT}")
        if not self.count():
            raise FileNotFoundError(f"no pictures in data.root={self.root}; expected there: {LAYOUT}")
        _ = self.splits

    def count(self) -> int:
        """Return the number of pictures."""
        return len(self._known[0])

    def source(self, name: str) -> StoredPictures:
        """Return "fit", "val" or "test"."""
        places, (names, classes) = self.splits[name], self._known
        return StoredPictures(self._store, [names[k] for k in places], classes[places], self.transform(name))

    def fingerprint(self) -> str:
        """Return a hash of the pictures' names and classes and of what is done to them."""
        names, classes = self._known
        return self.described(names, hashlib.sha256(classes.tobytes()).hexdigest())
