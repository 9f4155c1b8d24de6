"""Pictures in the layout of stylegan2-ada-pytorch's dataset_tool.py, with class labels, without, or with cameras."""

import json

import numpy as np
import pytest
import torch

from common.errors import UserError
from datamodules.picture_zips import PictureZip
from tests.datamodules.miniature_eg3d import files, write


def labeled(labels):
    """Return the files of a packed data set with another `dataset.json`; none if labels are ..."""
    found = files()
    del found["dataset.json"]
    return found if labels is ... else found | {"dataset.json": json.dumps(labels).encode()}


def classes():
    return {"labels": [[name, k % 3] for k, name in enumerate(sorted(labeled(...)))]}


def data_of(root, **options):
    given = {"root": str(root), "image_size": 16, "val_size": 4, "batch_size": 4, "num_workers": 0} | options
    return PictureZip(**given)


@pytest.mark.parametrize("name", ["ffhq.zip", "ffhq"])
@pytest.mark.parametrize("labels", [..., {"labels": None}, {}], ids=["no json", "null", "empty"])
def test_pictures_need_no_labels(name, labels, tmp_path):
    data = data_of(write(tmp_path / name, labeled(labels)))
    data.check()
    batch, fake = next(iter(data.train_dataloader())), data.fake_batch(4)
    assert {key: (value.shape, value.dtype) for key, value in batch.items()} == {
        key: (value.shape, value.dtype) for key, value in fake.items()
    }
    assert batch["image"].shape == (4, 3, 16, 16)
    assert -1 <= batch["image"].min() < -0.3
    assert 0.3 < batch["image"].max() <= 1
    assert not batch["label"].any()
    assert sorted([*data.splits["fit"], *data.splits["val"]]) == list(range(24))


def test_class_labels_are_those_of_the_pictures(tmp_path):
    root = write(tmp_path / "afhq.zip", labeled(classes()))
    data = data_of(root)
    fit = data.source("fit")
    known = dict(classes()["labels"])
    assert [int(fit[k]["label"]) for k in range(len(fit))] == [known[name] for name in fit.names]
    assert next(iter(data.train_dataloader()))["label"].dtype == torch.int64
    other = write(tmp_path / "other.zip", labeled({"labels": None}))
    assert data_of(other).fingerprint() != data.fingerprint() == data_of(root, seed=1).fingerprint()


def test_eg3ds_cameras_are_no_classes(tmp_path):
    batch = next(iter(data_of(write(tmp_path / "eg3d.zip", files())).train_dataloader()))
    assert not batch["label"].any()


def test_a_zip_is_read_by_worker_processes(tmp_path):
    root = write(tmp_path / "ffhq.zip", labeled(classes()))
    for one, other in zip(
        data_of(root).train_dataloader(), data_of(root, num_workers=2).train_dataloader(), strict=True
    ):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_only_training_pictures_are_mirrored(tmp_path):
    data = data_of(write(tmp_path / "ffhq.zip", labeled(...)), flip=True)
    seen = set()
    for seed in range(8):
        torch.manual_seed(seed)
        seen.add(data.source("fit")[0]["image"].numpy().tobytes())
    assert len(seen) == 2
    assert np.array_equal(data.source("test")[0]["image"], data.source("test")[0]["image"])


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ({"labels": [["00000/img00000000.png", 1]]}, r"has no class of 00000/img00000001\.png; expected: one of every"),
        ({"labels": {"a": 1}}, r'should be \{"labels": \[\[name, class number\]'),
        ([1], "should be"),
    ],
)
def test_broken_labels_are_one_line(labels, told, tmp_path):
    root = write(tmp_path / "ffhq.zip", labeled(labels))
    with pytest.raises(ValueError, match=told):
        data_of(root).check()


def test_missing_and_damaged_data_are_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no pictures at data\.root=.*expected there: a \.zip file of"):
        data_of(tmp_path / "none.zip").check()
    with pytest.raises(FileNotFoundError, match="no pictures in"):
        data_of(write(tmp_path / "empty.zip", {"readme.txt": b"x"})).check()
    (tmp_path / "cut.zip").write_bytes(write(tmp_path / "whole.zip", labeled(...)).read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"cut\.zip is not a whole \.zip file"):
        data_of(tmp_path / "cut.zip").check()
    root = write(tmp_path / "bad.zip", labeled(...) | {"dataset.json": b"{"})
    with pytest.raises(ValueError, match="is not whole JSON"):
        data_of(root).check()
    root = write(tmp_path / "text.zip", dict.fromkeys(labeled(...), b"no picture"))
    with pytest.raises(UserError, match=r"text\.zip: .*img\d+\.png is not a whole picture"):
        data_of(root).source("fit")[0]
