"""Pictures without labels, read from miniatures in the distributed layout."""

import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import UserError
from datamodules.generative import Cifar10, Lsun, PictureFolder, PictureShards
from tests.datamodules.miniature_generative import WRITERS
from tests.tiers import full

CLASSES = {"ffhq": PictureFolder, "picture_shards": PictureShards, "lsun_church": Lsun, "cifar10": Cifar10}


@pytest.fixture(params=CLASSES)
def made(request, tmp_path):
    return CLASSES[request.param], WRITERS[request.param](tmp_path)


def data_of(made, **options):
    kind, root = made
    size = 32 if kind is Cifar10 else 16
    return kind(**{"root": str(root), "image_size": size, "val_size": 4, "batch_size": 4, "num_workers": 0} | options)


def test_splits_cover_all_pictures_and_the_reference_is_of_training_ones(made):
    data = data_of(made)
    data.check()
    splits = data.splits
    assert sorted([*splits["fit"], *splits["val"]]) == list(range(data.count()))
    assert np.array_equal(splits["test"], splits["fit"])
    assert len(data_of(made, reference_size=3).splits["test"]) == 3
    assert set(data_of(made, reference_size=3).splits["test"]) <= set(splits["fit"])
    assert not np.array_equal(data_of(made, split_seed=1).splits["val"], splits["val"])


def test_pictures_are_square_and_in_range(made):
    data = data_of(made)
    for name in ("fit", "val", "test"):
        source = data.source(name)
        image = source[1]["image"]
        assert image.shape == data.image_shape
        assert image.dtype == torch.float32
        assert -1 <= image.min() < -0.3
        assert 0.3 < image.max() <= 1
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (4, *data.image_shape)
    assert torch.equal(data.source("val")[0]["image"], data.source("val")[0]["image"])


def test_only_training_pictures_are_mirrored(made):
    data, plain = data_of(made), data_of(made, flip=False)
    seen = []
    for seed in range(8):
        torch.manual_seed(seed)
        seen.append(data.source("fit")[0]["image"])
    first = plain.source("fit")[0]["image"]
    kinds = [(torch.allclose(image, first), torch.allclose(image, first.flip(-1), atol=0.05)) for image in seen]
    assert {kind[0] for kind in kinds} == {True, False}
    assert all(any(kind) for kind in kinds)
    assert torch.equal(data.source("test")[0]["image"], plain.source("test")[0]["image"])


def test_the_fingerprint_follows_the_data(made):
    first = data_of(made).fingerprint()
    assert first == data_of(made, seed=3).fingerprint()
    for options in ({"flip": False}, {"val_size": 5}, {"reference_size": 2}):
        assert data_of(made, **options).fingerprint() != first


def test_missing_data_are_told_with_their_layout(made, tmp_path):
    kind, _ = made
    with pytest.raises(FileNotFoundError, match=r"data\.root=.*expected there") as error:
        data_of((kind, tmp_path / "nothing")).check()
    assert "\n" not in str(error.value)


def test_too_few_pictures_are_refused(made):
    with pytest.raises(ValueError, match=r"data\.val_size is 100"):
        data_of(made, val_size=100).check()
    with pytest.raises(ValueError, match=r"data\.val_size is 0"):
        data_of(made, val_size=0)


def test_cifar_has_its_own_size(tmp_path):
    made = (Cifar10, WRITERS["cifar10"](tmp_path))
    with pytest.raises(ValueError, match="CIFAR-10 has 32"):
        data_of(made, image_size=16).check()


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "data.mdb").write_bytes(b"not a database")
    with pytest.raises(ValueError, match="not a database of LSUN"):
        data_of((Lsun, tmp_path)).check()


def test_a_value_that_is_no_picture_is_told(tmp_path):
    import lmdb

    root = WRITERS["lsun_church"](tmp_path)
    with lmdb.open(str(root), map_size=2**24) as environment, environment.begin(write=True) as transaction:
        for key in list(transaction.cursor().iternext(values=False)):
            transaction.put(key, b"broken")
    with pytest.raises(UserError, match="not a whole picture"):
        data_of((Lsun, root)).source("fit")[0]


@pytest.mark.parametrize("kept", [700, -30_000])
def test_a_shard_that_is_cut_short_is_told(tmp_path, kept):
    root = WRITERS["picture_shards"](tmp_path)
    shard = root / "00001.tar"
    shard.write_bytes(shard.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"00001\.tar is not a whole \.tar file"):
        data_of((PictureShards, root)).check()


def test_a_picture_in_a_shard_that_is_none_is_told(tmp_path):
    root = WRITERS["picture_shards"](tmp_path)
    for path in root.glob("*.tar"):
        path.write_bytes(path.read_bytes().replace(b"\xff\xd8\xff", b"not").replace(b"PNG", b"GNP"))
    with pytest.raises(UserError, match=r"\.tar: what begins at byte \d+ is not a whole picture"):
        [data_of((PictureShards, root)).source("fit")[k] for k in range(20)]


@pytest.mark.parametrize("method", ["fork", *full("spawn")])
def test_every_worker_opens_what_it_reads(made, method):
    data, here = data_of(made, num_workers=2), data_of(made)
    data.check()
    # This process has it open before the workers begin.
    expected = list(here.train_dataloader())
    loader = data.train_dataloader()
    loader.multiprocessing_context = method
    for _ in range(2):
        loader.batch_sampler.set_epoch(0)
        seen = list(loader)
        assert len(seen) == len(expected) > 3
        assert all(torch.equal(a["image"], b["image"]) for a, b in zip(seen, expected, strict=True))


def test_pictures_may_lie_anywhere_below_the_folder(tmp_path):
    for name in ("a.png", "deep/er/b.jpg", "c.txt", "d.JPEG"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if name != "c.txt":
            Image.new("RGB", (20, 20)).save(tmp_path / name)
        else:
            (tmp_path / name).write_text("no picture")
    assert data_of((PictureFolder, tmp_path), val_size=1).count() == 3
