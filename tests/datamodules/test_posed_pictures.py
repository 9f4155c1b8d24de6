"""Pictures with cameras, read from miniatures in EG3D's layout."""

import io
import json
import pickle
import re

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

from common.errors import UserError
from datamodules.formats.eg3d import Store, mirrored
from datamodules.posed_pictures import Eg3dPictures
from tests.datamodules.miniature_eg3d import camera, files, write


@pytest.fixture(params=["ffhq_512", "FFHQ_512.zip"])
def made(request, tmp_path):
    return write(tmp_path / request.param, files())


def data_of(root, **options):
    given = {"root": str(root), "image_size": 16, "val_size": 4, "batch_size": 4, "num_workers": 0} | options
    return Eg3dPictures(**given)


def relabelled(found, change):
    labels = json.loads(found["dataset.json"])["labels"]
    return found | {"dataset.json": json.dumps({"labels": change(labels)}).encode()}


def projected(label, point):
    """Where a world point is seen, in 0..1 from the left and from the top."""
    matrix, intrinsics = label[:16].reshape(4, 4), label[16:].reshape(3, 3)
    seen = intrinsics @ np.linalg.solve(matrix, [*point, 1])[:3]
    return seen[:2] / seen[2]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_batch_is_what_the_fake_one_promises(made):
    data = data_of(made)
    data.check()
    batch, fake = next(iter(data.train_dataloader())), data.fake_batch(4)
    assert {name: (value.shape, value.dtype) for name, value in batch.items()} == {
        name: (value.shape, value.dtype) for name, value in fake.items()
    }
    assert batch["image"].shape == (4, 3, 16, 16)
    assert -1 <= batch["image"].min() < -0.3
    assert 0.3 < batch["image"].max() <= 1
    assert batch["camera"].dtype == torch.float32
    assert not batch["label"].any()


def test_the_camera_of_a_fake_batch_looks_at_the_origin():
    label = data_of("nowhere").fake_batch(2)["camera"][1].double().numpy()
    assert np.allclose(projected(label, [0, 0, 0]), 0.5)
    assert np.allclose(projected(label, [0.1, 0.2, 0]), [0.5 + 4.2647 * 0.1 / 2.7, 0.5 + 4.2647 * 0.2 / 2.7])


def test_a_folder_and_a_zip_give_the_same_batches(tmp_path):
    folder, packed = (data_of(write(tmp_path / name, files()), flip=True) for name in ("a", "a.zip"))
    assert folder.fingerprint() == packed.fingerprint()
    pairs = list(zip(folder.train_dataloader(), packed.train_dataloader(), strict=True))
    assert len(pairs) == 5
    assert all(same(*pair) for pair in pairs)


def test_splits_are_disjoint_and_cover_all_pictures(made):
    splits = data_of(made).splits
    assert sorted([*splits["fit"], *splits["val"]]) == list(range(24))
    assert np.array_equal(splits["test"], splits["fit"])
    assert len(data_of(made, reference_size=3).source("test")) == 3
    with pytest.raises(ValueError, match=r"data\.val_size is 100"):
        data_of(made, val_size=100).check()


def test_cameras_go_with_their_pictures(made):
    found = files()
    known = dict(json.loads(found["dataset.json"])["labels"])
    assert list(known) != sorted(known)
    source = data_of(made, image_size=40).source("fit")
    for name, sample in zip(source.names, (source[k] for k in range(len(source))), strict=True):
        assert np.array_equal(sample["camera"], np.float32(known[name]))
        pixels = np.asarray(Image.open(io.BytesIO(found[name]))).transpose(2, 0, 1)
        assert np.allclose((sample["image"].numpy() + 1) * 127.5, pixels, atol=0.01)


def test_a_label_of_no_picture_is_left_out(tmp_path):
    root = write(tmp_path / "a", relabelled(files(), lambda labels: [*labels, ["../secret.png", [0] * 25]]))
    write(tmp_path, {"secret.png": files()["00000/img00000000.png"]})
    data = data_of(root)
    data.check()
    assert data.count() == 24


def test_a_mirrored_camera_sees_the_mirrored_world():
    rng = np.random.default_rng(3)
    for _ in range(5):
        label = np.array(camera(rng))
        # A camera off the middle, with skew.
        label[[17, 18, 21]] = 0.1, 0.45, 0.52
        flip = np.diag([-1.0, 1, 1, 1])
        turned = mirrored(label)
        assert np.allclose(turned[:16].reshape(4, 4), flip @ label[:16].reshape(4, 4) @ flip)
        assert np.linalg.det(turned[:16].reshape(4, 4)) == pytest.approx(1)
        assert turned[18] == pytest.approx(0.55)
        assert np.allclose(mirrored(turned), label)
        x, y, z = rng.uniform(-0.3, 0.3, 3)
        (left, top), (right, under) = projected(label, [x, y, z]), projected(turned, [-x, y, z])
        assert right == pytest.approx(1 - left)
        assert under == pytest.approx(top)


def test_a_picture_is_mirrored_with_its_camera(tmp_path):
    point, size = np.array([0.17, -0.08, 0.1]), 40
    found = files(count=6, size=size)
    for name, label in json.loads(found["dataset.json"])["labels"]:
        left, top = projected(np.array(label), point)
        pixels, file = np.zeros((size, size, 3), np.uint8), io.BytesIO()
        pixels[int(top * size), int(left * size)] = 255
        Image.fromarray(pixels).save(file, "PNG")
        found[name] = file.getvalue()
    root = write(tmp_path / "a.zip", found)
    options = {"image_size": size, "val_size": 1}
    source, plain = data_of(root, flip=True, **options).source("fit"), data_of(root, **options).source("fit")
    seen = []
    for seed in range(8):
        torch.manual_seed(seed)
        sample, as_is = source[0], plain[0]
        row, column = divmod(int(sample["image"][0].argmax()), size)
        seen.append(not np.array_equal(sample["camera"], as_is["camera"]))
        where = point * [-1, 1, 1] if seen[-1] else point
        assert (np.array([column, row]) == np.floor(projected(sample["camera"], where) * size)).all()
        assert torch.equal(sample["image"], as_is["image"].flip(-1) if seen[-1] else as_is["image"])
    assert set(seen) == {True, False}


def test_only_training_pictures_are_mirrored_and_only_if_asked_for(made):
    assert [data_of(made, flip=True).source(name).flip for name in ("fit", "val", "test")] == [True, False, False]
    assert not data_of(made).source("fit").flip


def test_the_fingerprint_follows_the_data(made, tmp_path):
    first = data_of(made).fingerprint()
    assert first == data_of(made, seed=3, num_workers=2).fingerprint()
    for options in ({"flip": True}, {"val_size": 5}, {"reference_size": 2}, {"image_size": 8}):
        assert data_of(made, **options).fingerprint() != first
    ordered = write(tmp_path / "ordered.zip", relabelled(files(), sorted))
    assert data_of(ordered).fingerprint() == first
    swapped = relabelled(files(), lambda rows: [[rows[0][0], rows[1][1]], [rows[1][0], rows[0][1]], *rows[2:]])
    assert data_of(write(tmp_path / "swapped.zip", swapped)).fingerprint() != first


@pytest.mark.parametrize("workers", [0, 1])
def test_a_restarted_training_sees_the_rest_of_the_batches(made, workers):
    straight, resumed = data_of(made, flip=True), data_of(made, flip=True, num_workers=workers)
    loader = straight.train_dataloader()
    loader.batch_sampler.set_epoch(1)
    resumed.trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", devices=1)
    resumed.trainer.state.fn = "fit"
    resumed.load_state_dict({"epoch": 1, "batch": 2})
    pairs = list(zip(list(loader)[2:], resumed.train_dataloader(), strict=True))
    assert len(pairs) == 3
    assert all(same(*pair) for pair in pairs)


def test_a_worker_opens_the_zip_itself(tmp_path):
    data = data_of(write(tmp_path / "a.zip", files()), num_workers=1)
    data.check()
    # The handle of this process is open, and is handed on neither by a fork nor by a pickle.
    seen = list(data.train_dataloader())
    assert all(same(*pair) for pair in zip(data_of(tmp_path / "a.zip").train_dataloader(), seen, strict=True))
    source = data.source("val")
    again = pickle.loads(pickle.dumps(source))
    assert again.store._opened is None
    assert torch.equal(again[1]["image"], source[1]["image"])


def without(name):
    return lambda found: {key: content for key, content in found.items() if key != name}


def named(labels):
    return lambda found: relabelled(found, lambda rows: labels(rows) if callable(labels) else labels)


def first_camera(change):
    return named(lambda rows: [[rows[0][0], change(rows[0][1])], *rows[1:]])


@pytest.mark.parametrize("name", ["a", "a.zip"])
@pytest.mark.parametrize(
    ("change", "kind", "told"),
    [
        (without("dataset.json"), FileNotFoundError, "no dataset.json at the top of data.root="),
        (lambda found: {"deep/" + key: content for key, content in found.items()}, FileNotFoundError, "at the top of"),
        (lambda found: {"dataset.json": found["dataset.json"]}, FileNotFoundError, "no pictures in data.root="),
        (lambda found: found | {"dataset.json": b"{"}, ValueError, "dataset.json is not whole JSON"),
        (lambda found: found | {"dataset.json": b"[]"}, ValueError, "dataset.json has no cameras; expected there"),
        (named(None), ValueError, "dataset.json has no cameras; expected there"),
        (named(lambda rows: [*rows, "a"]), ValueError, "has a label that is not [name, [25 numbers]]: a"),
        (named(lambda rows: rows[1:]), ValueError, ".png; expected there: one for every picture"),
        (first_camera(lambda numbers: numbers[:16]), ValueError, "is not 25 finite numbers"),
        (first_camera(lambda _: 3), ValueError, "is not 25 finite numbers"),
        (first_camera(lambda numbers: ["1", *numbers[1:]]), ValueError, "is not 25 finite numbers"),
        (first_camera(lambda numbers: [float("nan"), *numbers[1:]]), ValueError, "is not 25 finite numbers"),
    ],
)
def test_data_that_are_not_as_expected_are_told_in_a_line(tmp_path, name, change, kind, told):
    root = write(tmp_path / name, change(files(count=6)))
    with pytest.raises(kind, match=re.escape(told)) as error:
        data_of(root, val_size=1).check()
    assert "\n" not in str(error.value)
    assert str(root) in str(error.value)


def test_missing_data_are_told_with_their_layout(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data\.root=.*expected there: a \.zip file or a folder") as error:
        data_of(tmp_path / "nothing").check()
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_zip_is_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"not a zip")
    with pytest.raises(ValueError, match=r"a\.zip is not a whole \.zip file"):
        data_of(tmp_path / "a.zip").check()


def test_a_broken_or_oblong_picture_is_told(tmp_path):
    file, found = io.BytesIO(), files(count=6)
    Image.new("RGB", (20, 10)).save(file, "PNG")
    for content, told in ((b"broken", "png is not a whole picture"), (file.getvalue(), "is 20 x 10; its camera asks")):
        root = write(tmp_path / "a", {name: content for name in found if name != "dataset.json"})
        write(root, {"dataset.json": found["dataset.json"]})
        with pytest.raises(UserError, match=told):
            data_of(root, val_size=1).source("fit")[0]


def test_a_zip_with_folders_of_their_own_lists_pictures_only(tmp_path):
    root = write(tmp_path / "a.zip", {"00000/": b"", "notes.txt": b"", "odd.png/": b""} | files(count=2))
    assert Store(root).names == ["00000/img00000000.png", "00000/img00000001.png", "dataset.json"]
