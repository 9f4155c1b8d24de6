import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.fgvc import NUM_CLASSES
from datamodules.formats.fine_grained import FORMS
from tests.datamodules import miniature_fgvc
from tests.datamodules.fgvc_small import FEW, few_classes, names, small, written
from tests.datamodules.miniature_fgvc import SETS

__all__ = ["few_classes", "written"]


def test_the_table_of_classes_is_that_of_the_sets():
    assert SETS == {"cub": 200, "nabirds": 555, "flowers": 102, "dogs": 120, "cars": 196}
    assert NUM_CLASSES.keys() == FORMS.keys() == SETS.keys()


@pytest.mark.parametrize("dataset", SETS)
def test_splits_as_distributed(written, dataset):
    data = small(written, dataset)
    data.check()
    assert not data.by_json
    sizes = {name: len(data._splits[name][0]) for name in ("train", "val", "test")}
    # Flowers bring their validation split.
    assert sizes == ({"train": 5, "val": 5, "test": 5} if dataset == "flowers" else {"train": 8, "val": 2, "test": 5})
    parts = [names(data, split) for split in sizes]
    assert len(set.union(*parts)) == sum(sizes.values()) == 15
    for split in ("fit", "val", "test"):
        loaded = data.source(split)
        assert set(loaded.labels) <= set(range(FEW))
        assert loaded[0]["image"].shape == (3, 28, 28)
    assert sorted(data.source("test").labels) == list(range(FEW))


def test_validation_is_drawn_by_the_split_seed_alone(written):
    first = small(written, "cub", seed=0)
    assert names(first, "val") == names(small(written, "cub", seed=1), "val")
    assert any(names(first, "val") != names(small(written, "cub", split_seed=k), "val") for k in range(1, 4))


def test_training_is_resize_crop_flip_and_evaluation_the_centre(written, tmp_path):
    copy = tmp_path / "cub"
    shutil.copytree(written / "cub", copy)
    ramp = np.zeros((64, 48, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(48) * 5, np.arange(64)[:, None] * 3
    for path in (copy / "images").glob("*/*.jpg"):
        Image.fromarray(ramp).save(path, quality=100, subsampling=0)
    data = small(tmp_path, "cub", image_size=42)
    # The shorter side becomes 42 * 8 / 7 = 48, so this picture keeps its size and the centre begins at (11, 3).
    image = (data.source("val")[0]["image"] + 1) / 2
    assert abs(float(image[0, 20, 0]) * 255 - 3 * 5) < 3
    assert abs(float(image[1, 0, 20]) * 255 - 11 * 3) < 3
    tops, flips = set(), set()
    for seed in range(30):
        torch.manual_seed(seed)
        image = (data.source("fit")[0]["image"] + 1) / 2
        assert image.shape == (3, 42, 42)
        flips.add(bool(image[0, 20, 0] > image[0, 20, -1]))
        tops.add(round(float(image[1, 0].mean()) * 85))
    assert flips == {True, False}
    assert len(tops) > 5


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_like_the_fake_one_and_come_again(written, workers):
    data = small(written, "cars", num_workers=workers)
    true, fake = next(iter(data.train_dataloader())), data.fake_batch(4)
    assert {key: (value.shape, value.dtype) for key, value in fake.items()} == {
        key: (value.shape, value.dtype) for key, value in true.items()
    }
    assert -1 <= true["image"].min() < 0 < true["image"].max() <= 1
    again = next(iter(small(written, "cars").train_dataloader()))
    assert all(torch.equal(true[key], again[key]) for key in true)
    (loader,) = data.test_dataloader()
    assert torch.cat([batch["index"] for batch in loader]).tolist() == list(range(5))
    assert len(list(data.val_dataloader())) == 1


def test_the_fingerprint_follows_the_files_and_the_split(written, tmp_path):
    shutil.copytree(written / "cub", tmp_path / "cub")
    before = small(written, "cub").fingerprint()
    assert before == small(tmp_path, "cub").fingerprint() == small(written, "cub", seed=3).fingerprint()
    assert before != small(written, "cub", split_seed=1).fingerprint()
    assert before != small(written, "cub", mean=[0.4] * 3).fingerprint()
    json_rows = {name: of[::-1] for name, of in FORMS["cub"].read(written / "cub").items()}
    miniature_fgvc.vpt_json(tmp_path / "cub", json_rows | {"val": json_rows["train"][:1]})
    assert before != small(tmp_path, "cub").fingerprint()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_classes": 7}, "data.num_classes is 7, but cub has 5"),
        ({"val_fraction": 0.0}, "data.val_fraction"),
        ({"val_fraction": 1.0}, "data.val_fraction"),
        ({"image_size": 0}, "data.image_size"),
        ({"mean": [0.5]}, "data.mean"),
        ({"std": [0.5, 0.5, 0.0]}, "data.std"),
    ],
)
def test_bad_values_are_one_line(written, options, said):
    with pytest.raises(ValueError, match=said) as error:
        small(written, "cub", **options)
    assert "\n" not in str(error.value)


def test_an_unknown_set_and_a_broken_picture_are_named(written, tmp_path):
    with pytest.raises(ValueError, match=r"data\.dataset is 'birds', should be one of cub, nabirds"):
        small(written, "birds")
    shutil.copytree(written / "cub", tmp_path / "cub")
    for path in (tmp_path / "cub" / "images").glob("*/*.jpg"):
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="is not a whole picture"):
        small(tmp_path, "cub").source("test")[0]


def test_nothing_is_read_before_it_is_asked_for(tmp_path):
    batch = small(tmp_path / "nowhere", "dogs").fake_batch(2)
    assert batch["image"].shape == (2, 3, 28, 28)
    assert sorted(batch) == ["image", "index", "label"]
