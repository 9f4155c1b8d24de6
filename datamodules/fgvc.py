"""Classification on the five fine-grained sets, FGVC (u_tuning §3.3): CUB, NABirds, Flowers, Dogs, Cars."""

from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from common.ranges import NonNegativeInt, PositiveInt, Range
from datamodules.base import BaseDataModule, digest
from datamodules.formats.fine_grained import FORMS, JSON, Rows, contiguous, read_json
from datamodules.pictures import Pictures, check_pictures
from datamodules.transforms import centre_crop, check_input, crop_flip

NUM_CLASSES = {"cub": 200, "nabirds": 555, "flowers": 102, "dogs": 120, "cars": 196}


class Fgvc(BaseDataModule):
    """One of the five sets, with its official test.

    If any of VPT's `{train,val,test}.json` is in the root, all three are taken; otherwise the set's own files. Class
    ids are sorted and then numbered from 0. Training: shorter side to 256, random crop of 224, random flip;
    evaluation: shorter side to 256, crop of the middle (in that proportion for other sizes).

    Args:
        batch_size: the GLOBAL batch.
        num_workers: loader processes of each rank.
        seed: seed of the sample order and of the augmentation.
        dataset: which of the five.
        num_classes: classes of the set.
        root: the set's own folder.
        channels: colour channels of an image.
        image_size: side of the images the network sees.
        val_fraction: share of the training pictures held out where the files tell no validation split.
        split_seed: seed of the choice of these.
        mean: what is taken from each channel, in 0..1, or null (with `std`) for that of the backbone's pre-training.
        std: what each channel is then divided by.
    """

    offers: ClassVar = {"images": "", "color images": "", "classes": ""}

    def __init__(
        self,
        *,
        batch_size: PositiveInt = 128,
        num_workers: NonNegativeInt = 4,
        seed: NonNegativeInt = 0,
        dataset: Literal["cub", "nabirds", "flowers", "dogs", "cars"] = "cub",
        num_classes: PositiveInt = 200,
        root: str = "data",
        channels: Literal[3] = 3,
        image_size: PositiveInt = 224,
        val_fraction: Annotated[float, Range(above=0, below=1)] = 0.1,
        split_seed: NonNegativeInt = 0,
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        if dataset not in FORMS:
            raise ValueError(f"data.dataset is {dataset!r}, should be one of {', '.join(FORMS)}")
        if num_classes != NUM_CLASSES[dataset]:
            raise ValueError(f"data.num_classes is {num_classes}, but {dataset} has {NUM_CLASSES[dataset]} classes")
        self.statistics = check_input(channels, image_size, mean, std)
        self.dataset, self.num_classes, self.root, self.form = dataset, num_classes, Path(root), FORMS[dataset]
        self.val_fraction, self.split_seed = val_fraction, split_seed
        self.image_shape = (channels, image_size, image_size)
        self.test_names = ["test"]

    @property
    def by_json(self) -> bool:
        """Whether VPT's splits are there, which are then taken."""
        return any((self.root / file).is_file() for file in JSON)

    def check(self) -> None:
        """Raise FileNotFoundError if lists or pictures are not there, ValueError if the lists are wrong."""
        layout = f"expected there: {self.form.layout}, or {', '.join(JSON)} in place of the set's own lists"
        needed = [*(JSON if self.by_json else self.form.files), *([self.form.images] if self.form.images else [])]
        missing = [name for name in needed if not (self.root / name).exists()]
        if missing:
            raise FileNotFoundError(f"no {missing[0]} under data.root={self.root} for {self.dataset}; {layout}")
        names = [name for of in self._rows.values() for name, _ in of]
        if len(set(names)) < len(names):
            raise ValueError(f"the splits in {self.root} name a picture twice")
        count = len({label for of in self._rows.values() for _, label in of})
        if count != self.num_classes:
            raise ValueError(f"{self.root} has {count} classes, but {self.dataset} has {self.num_classes}")
        check_pictures((path for paths, _ in self._splits.values() for path in paths), layout)

    @cached_property
    def _rows(self) -> dict[str, Rows]:
        return read_json(self.root) if self.by_json else self.form.read(self.root)

    @cached_property
    def _splits(self) -> dict[str, tuple[list[Path], NDArray[np.int64]]]:
        """Pictures and labels of "train", "val" and "test"."""
        folder, numbered = self.root / self.form.images, contiguous(self._rows)
        splits = {name: ([folder / path for path in of], labels) for name, (of, labels) in numbered.items()}
        return splits if "val" in splits else splits | self._cut(*splits["train"])

    def _cut(self, paths: list[Path], labels: NDArray[np.int64]) -> dict[str, tuple[list[Path], NDArray[np.int64]]]:
        """Return the training pictures as "train" and "val", each in their order."""
        order = np.random.default_rng(self.split_seed).permutation(len(paths))
        held = round(len(paths) * self.val_fraction)
        if not 0 < held < len(paths):
            raise ValueError(f"data.val_fraction={self.val_fraction} of {len(paths)} pictures leaves a split empty")
        places = {"val": np.sort(order[:held]), "train": np.sort(order[held:])}
        return {name: ([paths[k] for k in of], labels[of]) for name, of in places.items()}

    def fingerprint(self) -> str:
        """Return a hash of the pictures' names and labels in every split, and of how they are prepared."""
        splits = {
            name: ([path.relative_to(self.root).as_posix() for path in paths], labels.tolist())
            for name, (paths, labels) in self._splits.items()
        }
        return digest("fgvc", self.dataset, self.image_shape, self.statistics, splits)

    def source(self, name: str) -> Pictures:
        """Return "fit", "val" or "test"; only the first is augmented."""
        paths, labels = self._splits["train" if name == "fit" else name]
        prepare = crop_flip if name == "fit" else centre_crop
        return Pictures(paths, labels, prepare(self.image_shape[1]))
