import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import cifar100_open_set
from datamodules.cifar100_open_set import Cifar100OpenSet
from datamodules.memory import Augmented, mapped, pixel_hashes
from tests.datamodules import miniature

NAMES = ["train", "known", "tiny_imagenet", "lsun", "references"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return root, miniature.everything(root)


def small(root, **options):
    return Cifar100OpenSet(**{"root": str(root), "batch_size": 8, "num_workers": 0, "val_size": 100} | options)


def test_every_source_is_what_its_files_hold(written):
    root, images = written
    data = small(root, outliers=True)
    data.check()
    assert data.test_names == NAMES
    assert data.ood_names == ["tiny_imagenet", "lsun"]
    assert {name: len(data.source(name)) for name in NAMES} == {
        "train": 300, "known": 100, "tiny_imagenet": 12, "lsun": 12, "references": 12,
    }  # fmt: skip
    assert np.array_equal(data.source("known").pixels, images["test"].reshape(-1, 3, 32, 32))
    assert data.source("known").labels.tolist() == [k * 7 % 100 for k in range(100)]
    for name, folder in (("tiny_imagenet", "Imagenet_resize"), ("lsun", "LSUN_resize")):
        assert np.array_equal(data.source(name).pixels.transpose(0, 2, 3, 1), images[folder])
        assert (data.source(name).labels == -1).all()
    assert data.source("references").labels.tolist() == [k % 4 for k in range(12)]


def test_validation_is_held_out_of_training_alike_in_every_class_and_run(written):
    root, images = written
    data = small(root, seed=0)
    train, val = (pixel_hashes(data.source(name).pixels) for name in ("train", "val"))
    test = pixel_hashes(data.source("known").pixels)
    assert not set(train) & set(val)
    assert not {*train, *val} & set(test)
    assert {*train, *val} == set(pixel_hashes(images["train"].reshape(-1, 3, 32, 32)))
    assert (np.bincount(data.source("val").labels, minlength=100) == 1).all()
    assert np.array_equal(small(root, seed=1).source("val").pixels, data.source("val").pixels)


def test_training_batches_are_augmented_and_like_the_fake_one(written):
    data = small(written[0], outliers=True)
    true, fake = next(iter(data.train_dataloader())), data.fake_batch(8)
    assert true["image"].shape == true["outlier"].shape == (8, 3, 128, 128)
    assert {key: (value.shape, value.dtype) for key, value in fake.items()} == {
        key: (value.shape, value.dtype) for key, value in true.items()
    }
    assert -1 <= true["image"].min() < -0.5 < 0.5 < true["image"].max() <= 1
    again = next(iter(small(written[0], outliers=True).train_dataloader()))
    assert torch.equal(true["image"], again["image"])
    later = data.train_dataloader()
    later.batch_sampler.set_epoch(1)
    other = {i: image for batch in later for i, image in zip(batch["index"].tolist(), batch["image"], strict=True)}
    pairs = [(image, other[i]) for i, image in zip(true["index"].tolist(), true["image"], strict=True) if i in other]
    assert not any(torch.equal(first, second) for first, second in pairs)


def test_workers_load_the_same_batches(written):
    alone = list(small(written[0], image_size=32, outliers=True).train_dataloader())
    shared = list(small(written[0], image_size=32, outliers=True, num_workers=2).train_dataloader())
    assert all(torch.equal(a[key], b[key]) for a, b in zip(alone, shared, strict=True) for key in a)


def test_augmentation_is_resize_crop_flip():
    # A picture of its own coordinates tells where each pixel came from.
    ramp = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (3, 32, 1))
    source = Augmented(ramp[None], np.zeros(1), cifar100_open_set._augmentation(128, channels_last=False))
    starts, flips = set(), set()
    for seed in range(30):
        torch.manual_seed(seed)
        row = source[0]["image"][0, 64]
        flips.add(bool(row[0] > row[-1]))
        starts.add(round(float(row.min()), 2))
        # 128 of 160 pixels: four fifths of the range, at the slope of a fivefold enlargement.
        assert 1.3 < float(row.max() - row.min()) < 1.65
    assert flips == {True, False}
    assert len(starts) > 5


def test_test_loaders_resize_and_keep_the_order(written):
    root, images = written
    data = small(root)
    for name, loader in zip(NAMES, data.test_dataloader(), strict=True):
        batches = list(loader)
        assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(len(data.source(name))))
        assert torch.cat([batch["label"] for batch in batches]).tolist() == data.source(name).labels.tolist()
        assert batches[0]["image"].shape[1:] == (3, 128, 128)
    plain = next(iter(small(root, image_size=32).test_dataloader()[1]))["image"]
    assert torch.allclose(plain, torch.from_numpy(images["test"][:8].reshape(-1, 3, 32, 32)).float() / 127.5 - 1)


def test_outliers_stay_on_disk(written):
    root, images = written
    data = small(root, outliers=True, image_size=32)
    source = data.source("outlier")
    assert len(source) == 300
    assert isinstance(mapped(source.pixels), np.memmap)
    assert np.array_equal(mapped(source.pixels)[7], images["outlier"][7])


def test_a_reference_that_is_in_the_unknown_test_is_left_out(written, tmp_path, monkeypatch):
    root = tmp_path / "leak"
    shutil.copytree(written[0], root)
    leaked = Image.open(root / "tiny-imagenet-200/val/images/val_5.JPEG").resize((32, 32), Image.Resampling.BILINEAR)
    leaked.save(root / "Imagenet_resize" / "Imagenet_resize" / "test_99999.png")
    said = []
    monkeypatch.setattr(cifar100_open_set, "rank_zero_info", said.append)
    data = small(root)
    references, unknown = data.source("references"), data.source("tiny_imagenet")
    assert len(unknown) == 13
    assert references.labels.tolist() == [k % 4 for k in range(12) if k != 5]
    assert not set(pixel_hashes(references.pixels)) & set(pixel_hashes(unknown.pixels))
    assert said == ["1 references left out: the unknown test images hold the same pixels"]


def test_nothing_is_read_before_it_is_asked_for(tmp_path):
    data = small(tmp_path / "nowhere", outliers=True)
    assert data.fake_batch(2)["outlier"].shape == (2, 3, 128, 128)


@pytest.mark.parametrize(
    ("gone", "named"),
    [
        ("cifar-100-python/meta", "cifar-100-python"),
        ("LSUN_resize", "LSUN_resize"),
        ("Imagenet_resize/Imagenet_resize", "Imagenet_resize"),
        ("tiny-imagenet-200/wnids.txt", "tiny-imagenet-200"),
        ("300K_random_images.npy", "300K_random_images.npy"),
    ],
)
def test_what_is_missing_is_named_in_one_line_with_the_layout(written, tmp_path, gone, named):
    root = tmp_path / "part"
    shutil.copytree(written[0], root)
    path = root / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(FileNotFoundError) as error:
        small(root, outliers=True).check()
    said = str(error.value)
    assert said.startswith(f"no {named} under data.root={root}; expected there: cifar-100-python/{{train,test,meta}}, ")
    assert "\n" not in said


def test_only_what_is_used_is_needed(written, tmp_path):
    shutil.copytree(written[0] / "cifar-100-python", tmp_path / "cifar-100-python")
    shutil.copytree(written[0] / "LSUN_resize", tmp_path / "LSUN_resize")
    data = small(tmp_path, ood=["lsun"], references=False)
    data.check()
    assert data.test_names == ["train", "known", "lsun"]
    assert data.reference_ood is None


def test_the_fingerprint_follows_the_files(written, tmp_path):
    shutil.copytree(written[0], tmp_path / "copy")
    assert small(written[0]).fingerprint() == small(tmp_path / "copy").fingerprint()
    next((tmp_path / "copy" / "LSUN_resize" / "LSUN_resize").iterdir()).unlink()
    assert small(written[0]).fingerprint() != small(tmp_path / "copy").fingerprint()


def test_bad_arguments_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"data\.references"):
        small(tmp_path, ood=["lsun"])
    with pytest.raises(ValueError, match="multiple of 100"):
        small(tmp_path, val_size=150)


def test_outliers_of_another_shape_are_refused(written, tmp_path):
    np.save(tmp_path / "300K_random_images.npy", np.zeros((5, 3, 32, 32), np.uint8))
    with pytest.raises(ValueError, match=r"should be uint8 \[n, 32, 32, 3\]"):
        small(tmp_path, outliers=True).source("outlier")
