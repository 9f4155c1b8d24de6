import numpy as np
import pytest
import sklearn.datasets
import torch

from datamodules.digits_open_set import DigitsOpenSet
from datamodules.memory import pixel_hashes

SPLITS = ("train", "val", "known", "unknown", "references")


def test_the_splits_share_no_image_by_place_or_by_pixels():
    data = DigitsOpenSet()
    hashes = np.concatenate([pixel_hashes(data.source(name).pixels) for name in SPLITS])
    assert len(np.unique(hashes)) == len(hashes) == 1797
    sizes = {name: len(data.source(name)) for name in SPLITS}
    assert sizes["train"] > sizes["known"] > sizes["val"] > 90
    assert sizes["unknown"] > sizes["references"] > 250


def test_labels_are_those_of_the_digits():
    digits = sklearn.datasets.load_digits()
    truth = dict(zip(pixel_hashes(digits.images.astype(np.uint8)), digits.target, strict=True))
    data = DigitsOpenSet(seed=4)
    known, unknown = {}, {}
    for name in SPLITS:
        source = data.source(name)
        names = unknown if name in {"unknown", "references"} else known
        for number, key in zip(source.labels, pixel_hashes(source.pixels[:, 0]), strict=True):
            assert names.setdefault(number, truth[key]) == truth[key]
    assert sorted(known) == list(range(6))
    assert sorted(unknown) == list(range(4))
    assert sorted([*known.values(), *unknown.values()]) == list(range(10))


def test_duplicates_are_left_out(monkeypatch):
    digits = sklearn.datasets.load_digits()
    twice = np.arange(0, 1797, 2).repeat(2)
    digits.images, digits.target = digits.images[twice], digits.target[twice]
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda: digits)
    data = DigitsOpenSet()
    hashes = np.concatenate([pixel_hashes(data.source(name).pixels) for name in SPLITS])
    assert len(np.unique(hashes)) == len(hashes) == 899


def test_the_seed_draws_the_classes_and_the_split():
    first, same, other = DigitsOpenSet(seed=0), DigitsOpenSet(seed=0), DigitsOpenSet(seed=1)
    assert first.fingerprint() == same.fingerprint() != other.fingerprint()


def test_batches_are_like_the_fake_one_and_in_order():
    data = DigitsOpenSet(batch_size=32)
    true, fake = next(iter(data.train_dataloader())), data.fake_batch(32)
    assert {key: (value.shape, value.dtype) for key, value in fake.items()} == {
        key: (value.shape, value.dtype) for key, value in true.items()
    }
    assert true["image"].min() == -1
    assert true["image"].max() == 1
    assert data.test_names == ["train", "known", "unknown", "references"]
    for name, loader in zip(data.test_names, data.test_dataloader(), strict=True):
        batches = list(loader)
        assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(len(data.source(name))))
        assert torch.cat([batch["label"] for batch in batches]).tolist() == data.source(name).labels.tolist()


@pytest.mark.parametrize(
    "options", [{"num_known": 10}, {"val_fraction": 0.6, "test_fraction": 0.5}, {"reference_fraction": 1.0}]
)
def test_an_empty_split_is_refused(options):
    with pytest.raises(ValueError, match="data"):
        DigitsOpenSet(**options)
