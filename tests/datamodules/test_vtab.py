import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.vtab import NUM_CLASSES, Vtab1k
from tests.datamodules import miniature_fgvc


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("vtab-1k")
    miniature_fgvc.vtab(root)
    return root


def small(root, **options):
    options = {"task": "svhn", "num_classes": 10, "batch_size": 8, "num_workers": 0, "image_size": 16} | options
    return Vtab1k(root=str(root), **options)


def test_there_are_nineteen_tasks():
    assert len(NUM_CLASSES) == 19


def test_splits_are_those_of_the_lists(written):
    data = small(written)
    data.check()
    paths = {name: set(data.source(name).paths) for name in ("fit", "val", "test")}
    assert {name: len(of) for name, of in paths.items()} == {"fit": 80, "val": 20, "test": 30}
    assert len(set.union(*paths.values())) == 130
    assert data.source("test").labels.tolist() == [k % 10 for k in range(30)]
    everything = set(small(written, train_on_val=True).source("fit").paths)
    assert everything == paths["fit"] | paths["val"]


def test_a_picture_is_resized_directly_and_never_augmented(written):
    data = small(written)
    source = data.source("fit")
    assert torch.equal(source[3]["image"], source[3]["image"])
    # A picture of 40 x 48 becomes square without a crop.
    with Image.open(source.paths[3]) as file:
        whole = np.asarray(file.convert("RGB").resize((16, 16), Image.Resampling.BILINEAR), np.float32)
    assert np.abs(source[3]["image"].permute(1, 2, 0).numpy() - (whole / 127.5 - 1)).max() < 0.03


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_like_the_fake_one(written, workers):
    data = small(written, num_workers=workers)
    true, fake = next(iter(data.train_dataloader())), data.fake_batch(8)
    assert {key: (value.shape, value.dtype) for key, value in fake.items()} == {
        key: (value.shape, value.dtype) for key, value in true.items()
    }
    (loader,) = data.test_dataloader()
    batches = list(loader)
    assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(30))
    assert torch.cat([batch["label"] for batch in batches]).tolist() == data.source("test").labels.tolist()


@pytest.mark.parametrize("gone", ["train800.txt", "val200.txt", "train800val200.txt", "test.txt"])
def test_a_missing_list_is_one_line_with_the_layout(written, tmp_path, gone):
    shutil.copytree(written / "svhn", tmp_path / "svhn")
    (tmp_path / "svhn" / gone).unlink()
    with pytest.raises(FileNotFoundError) as error:
        small(tmp_path).check()
    said = str(error.value)
    assert said.startswith(f"no svhn/{gone} under data.root={tmp_path}; expected there: svhn/{{train800.txt,")
    assert "\n" not in said


def test_a_missing_picture_is_named(written, tmp_path):
    shutil.copytree(written / "svhn", tmp_path / "svhn")
    for k in (3, 4):
        (tmp_path / "svhn" / f"images/test/test_{k:06d}.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"2 pictures of the splits are not there, such as .*test_000003\.png"):
        small(tmp_path).check()


@pytest.mark.parametrize("line", ["a.png", "a.png one", "a.png 10", "a.png -1", ""])
def test_a_broken_list_is_one_line(written, tmp_path, line):
    shutil.copytree(written / "svhn", tmp_path / "svhn")
    (tmp_path / "svhn" / "test.txt").write_text(f"{line}\n")
    with pytest.raises(ValueError, match=r"test\.txt") as error:
        small(tmp_path).check()
    assert "\n" not in str(error.value)


def test_the_fingerprint_follows_the_lists(written):
    assert small(written).fingerprint() == small(written, seed=4).fingerprint()
    assert small(written).fingerprint() != small(written, train_on_val=True).fingerprint()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"task": "mnist"}, "data.task is 'mnist', should be one of caltech101"),
        ({"num_classes": 11}, "data.num_classes is 11, but svhn has 10"),
        ({"channels": 1}, "images of 1 channels"),
        ({"image_size": 0}, "data.image_size is 0"),
        ({"mean": [2.0, 0.5, 0.5]}, "data.mean"),
    ],
)
def test_bad_values_are_one_line(tmp_path, options, said):
    with pytest.raises(ValueError, match=said) as error:
        small(tmp_path, **options)
    assert "\n" not in str(error.value)
