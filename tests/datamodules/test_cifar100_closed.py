import shutil

import numpy as np
import pytest
import torch

from datamodules.cifar100 import Cifar100
from datamodules.memory import pixel_hashes
from tests.datamodules import miniature


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return root, miniature.cifar100(root)


def small(root, **options):
    options = {"batch_size": 8, "num_workers": 0, "val_size": 100, "image_size": 48} | options
    return Cifar100(root=str(root), **options)


def test_splits_are_disjoint_whole_and_the_same_in_every_run(written):
    root, images = written
    data = small(root)
    data.check()
    hashes = {name: set(pixel_hashes(data.source(name).pixels)) for name in ("fit", "val", "test")}
    assert {name: len(of) for name, of in hashes.items()} == {"fit": 300, "val": 100, "test": 100}
    assert len(set.union(*hashes.values())) == 500
    assert hashes["fit"] | hashes["val"] == set(pixel_hashes(images["train"].reshape(-1, 3, 32, 32)))
    assert (np.bincount(data.source("val").labels, minlength=100) == 1).all()
    assert np.array_equal(small(root, seed=1).source("val").pixels, data.source("val").pixels)
    assert not np.array_equal(small(root, split_seed=1).source("val").pixels, data.source("val").pixels)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_like_the_fake_one_and_come_again(written, workers):
    data = small(written[0], num_workers=workers)
    true, fake = next(iter(data.train_dataloader())), data.fake_batch(8)
    assert true["image"].shape == (8, 3, 48, 48)
    assert {key: (value.shape, value.dtype) for key, value in fake.items()} == {
        key: (value.shape, value.dtype) for key, value in true.items()
    }
    assert -1 <= true["image"].min() < -0.5 < 0.5 < true["image"].max() <= 1
    again = next(iter(small(written[0]).train_dataloader()))
    assert all(torch.equal(true[key], again[key]) for key in true)


def test_the_test_images_are_enlarged_and_in_order(written):
    root, images = written
    data = small(root, image_size=32)
    (loader,) = data.test_dataloader()
    batches = list(loader)
    assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(100))
    assert torch.cat([batch["label"] for batch in batches]).tolist() == [k * 7 % 100 for k in range(100)]
    true = torch.from_numpy(images["test"][:8].reshape(-1, 3, 32, 32)).float() / 127.5 - 1
    assert torch.allclose(batches[0]["image"], true, atol=1e-6)
    assert small(root).source("test")[0]["image"].shape == (3, 48, 48)


def test_training_images_are_moved_and_flipped_or_only_enlarged(written):
    root, _ = written
    data = small(root, image_size=32)
    source, plain = data.source("fit"), small(root, image_size=32, augmentation="resize").source("fit")
    ramp = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (3, 32, 1))
    source.pixels, plain.pixels = ramp[None], ramp[None]
    shifts, flips = set(), set()
    for seed in range(30):
        torch.manual_seed(seed)
        # A row away from the padding above and below; white where it grows from black.
        row = (source[0]["image"][0, 16] + 1) * 127.5
        flips.add(bool(row[8] > row[23]))
        shifts.add(round(float(row[16]) / 8))
        assert torch.equal(plain[0]["image"], plain[0]["image"])
    assert flips == {True, False}
    assert 6 <= len(shifts) <= 18
    assert torch.allclose((plain[0]["image"] + 1) * 127.5, torch.from_numpy(ramp).float(), atol=1e-4)


def test_mean_and_std_are_used(written):
    options = {"image_size": 32, "augmentation": "resize"}
    data = small(written[0], mean=[0.1, 0.2, 0.3], std=[0.5, 1.0, 2.0], **options)
    batch = next(iter(data.test_dataloader()[0]))
    found = data.on_after_batch_transfer(batch, 0)
    column = torch.tensor([[0.1, 0.2, 0.3], [0.5, 1.0, 2.0]])[..., None, None]
    assert torch.allclose(found["image"], ((batch["image"] + 1) / 2 - column[0]) / column[1], atol=1e-6)
    assert found["label"] is batch["label"]


@pytest.mark.parametrize("gone", ["train", "test", "meta"])
def test_what_is_missing_is_one_line_with_the_layout(written, tmp_path, gone):
    shutil.copytree(written[0], tmp_path / "part")
    (tmp_path / "part" / "cifar-100-python" / gone).unlink()
    with pytest.raises(FileNotFoundError) as error:
        small(tmp_path / "part").check()
    assert str(error.value) == (
        f"no cifar-100-python under data.root={tmp_path / 'part'}; expected there: cifar-100-python/{{train,test,meta}}"
    )


def test_the_fingerprint_follows_the_split_and_the_preparation(written):
    first = small(written[0]).fingerprint()
    assert first == small(written[0], seed=5).fingerprint()
    for options in ({"split_seed": 1}, {"val_size": 200}, {"augmentation": "resize"}, {"mean": [0.4] * 3}):
        assert first != small(written[0], **options).fingerprint()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"val_size": 150}, "data.val_size is 150, should be a multiple of 100"),
        ({"val_size": 0}, "data.val_size is 0"),
        ({"val_size": 50000}, "data.val_size is 50000"),
        ({"image_size": 0}, "data.image_size is 0"),
        ({"mean": [0.5, 0.5]}, "data.mean"),
        ({"std": [0.0, 0.5, 0.5]}, "data.std"),
    ],
)
def test_bad_values_are_one_line(tmp_path, options, said):
    with pytest.raises(ValueError, match=said) as error:
        small(tmp_path, **options)
    assert "\n" not in str(error.value)


def test_a_split_that_leaves_nothing_to_train_on_is_refused(written):
    with pytest.raises(ValueError, match=r"data\.val_size is 400"):
        small(written[0], val_size=400).source("val")
