from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from datamodules.cached_logits import CachedLogits

K = 6


def arrays(count=40, kind=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((count, K)).astype(kind)
    return {"logits": logits, "labels": np.arange(count) % K, "features": rng.standard_normal((count, 3)).astype(kind)}


def write(folder, form, content):
    if form == "folder":
        (folder / "cached").mkdir()
        for name, array in content.items():
            np.save(folder / "cached" / f"{name}.npy", array)
        return folder / "cached"
    path = folder / f"cached.{form}"
    if form == "npy":
        np.save(path, content["logits"])
        for name in content.keys() - {"logits"}:
            np.save(folder / f"cached_{name}.npy", content[name])
    elif form == "npz":
        np.savez_compressed(path, **content)
    else:
        save_file(content, path)
    return path


def small(path, **options):
    return CachedLogits(path=str(path), **{"batch_size": 8, "num_classes": K} | options)


def rows(data, split):
    (batch,) = list(data.eval_loader(data.source(split), 1000))
    return batch


@pytest.mark.parametrize("kind", [np.float16, np.float32])
@pytest.mark.parametrize("form", ["folder", "npy", "npz", "safetensors"])
def test_every_form_gives_the_same_rows(tmp_path, form, kind):
    content = arrays(kind=kind)
    data = small(write(tmp_path, form, content))
    data.check()
    found = {name: rows(data, name) for name in data.test_names}
    assert {name: len(batch["label"]) for name, batch in found.items()} == {"moments": 20, "test": 20}
    taken = np.concatenate([data._rows[name] for name in data.test_names])
    assert sorted(taken) == list(range(40))
    both = {key: torch.cat([found[name][key] for name in data.test_names]) for key in ("logits", "features", "label")}
    assert both["logits"].dtype == torch.float32
    assert torch.equal(both["logits"], torch.from_numpy(content["logits"][taken].astype(np.float32)))
    assert torch.equal(both["features"], torch.from_numpy(content["features"][taken].astype(np.float32)))
    assert both["label"].tolist() == content["labels"][taken].tolist()


def is_mapped(array, folder):
    """Return whether the numbers of an array are a mapped file of a folder, not a copy in memory."""
    place = array.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(end, 16) for end in line.split()[0].split("-"))
        if first <= place < last:
            return str(folder) in line
    return False


@pytest.mark.parametrize("form", ["folder", "npy", "safetensors"])
def test_what_can_stay_on_disk_does(tmp_path, form):
    arrays_on_disk = small(write(tmp_path, form, arrays())).arrays
    assert len(arrays_on_disk) == 3
    for array in arrays_on_disk.values():
        assert is_mapped(array, tmp_path)
        assert not is_mapped(np.array(array), tmp_path)
        assert not array.flags.writeable


def test_a_safetensors_type_that_numpy_lacks_is_named(tmp_path):
    save_torch({"logits": torch.zeros(2, K).bfloat16(), "labels": torch.arange(2)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"logits is of type BF16, should be one of F16, F32") as error:
        small(tmp_path / "a.safetensors").check()
    assert "\n" not in str(error.value)


def test_the_split_is_told_by_its_seed_alone(tmp_path):
    path = write(tmp_path, "npz", arrays())
    first, other = small(path), small(path, split_seed=1)
    assert np.array_equal(first._rows["test"], small(path, seed=7)._rows["test"])
    assert not np.array_equal(first._rows["test"], other._rows["test"])
    assert first.fingerprint() == small(path, seed=7).fingerprint() != other.fingerprint()
    assert len(small(path, test_fraction=0.25).source("test")) == 10


def test_batches_have_the_keys_of_the_fake_one(tmp_path):
    content = arrays()
    del content["features"]
    data = small(write(tmp_path, "npz", content))
    true, fake = next(iter(data.test_dataloader()[0])), data.fake_batch(8)
    assert {key: (value.shape, value.dtype) for key, value in fake.items()} == {
        key: (value.shape, value.dtype) for key, value in true.items()
    }


def test_a_second_network_has_to_be_of_the_same_rows(tmp_path):
    for name in ("f", "g", "h"):
        (tmp_path / name).mkdir()
    f, g, h = arrays(), arrays(seed=1), arrays(seed=1)
    h["labels"] = h["labels"][::-1].copy()
    paths = [write(tmp_path / name, "npz", content) for name, content in (("f", f), ("g", g), ("h", h))]
    data = small(paths[0], source_path=str(paths[1]))
    batch = rows(data, "test")
    assert np.array_equal(batch["source_logits"], g["logits"][data._rows["test"]])
    with pytest.raises(ValueError, match="not of the same pictures"):
        small(paths[0], source_path=str(paths[2])).check()


def test_pickled_objects_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", logits=np.array([{}, {}], object), labels=np.arange(2))
    np.save(tmp_path / "b.npy", np.array([{}, {}], object))
    np.save(tmp_path / "b_labels.npy", np.arange(2))
    for name in ("a.npz", "b.npy"):
        with pytest.raises(ValueError, match="cannot be read as plain arrays") as error:
            small(tmp_path / name).check()
        assert "\n" not in str(error.value)


def test_a_number_that_is_not_finite_is_named(tmp_path):
    content = arrays(kind=np.float16)
    content["logits"][7, 2] = np.inf
    data = small(write(tmp_path, "npz", content))
    with pytest.raises(ValueError, match="row 7 of logits"):
        [rows(data, name) for name in data.test_names]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": None}, "no labels in this file"),
        ({"labels": np.arange(39) % K}, "40 rows of logits, but 39 of labels"),
        ({"labels": np.arange(40)}, "labels run from 0 to 39, but there are 6 logits"),
        ({"labels": np.zeros(40)}, "labels is float64"),
        ({"logits": np.zeros((40, K), int)}, "logits is int64"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, change, said):
    content = {name: array for name, array in (arrays() | change).items() if array is not None}
    with pytest.raises(ValueError, match=said) as error:
        small(write(tmp_path, "npz", content)).check()
    assert "\n" not in str(error.value)


def test_missing_and_broken_files_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected there: a folder of logits\.npy"):
        small(tmp_path / "none.npz").check()
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"logits\.npy"):
        small(tmp_path / "empty").check()
    path = write(tmp_path, "safetensors", arrays())
    for content in (b"", path.read_bytes()[:20], b"\xff" * 200, path.read_bytes()[:-50]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="cannot be read") as error:
            small(path).check()
        assert "\n" not in str(error.value)
    (tmp_path / "x.pt").write_bytes(b"x")
    with pytest.raises(ValueError, match="of no known form"):
        small(tmp_path / "x.pt").check()
    with pytest.raises(ValueError, match=r"data\.test_fraction"):
        small(tmp_path, test_fraction=1.0)


def test_the_number_of_classes_must_be_told_rightly(tmp_path):
    path = write(tmp_path, "npz", arrays())
    with pytest.raises(ValueError, match=r"num_classes is 5, but .* has 6 logits"):
        small(path, num_classes=5).check()
