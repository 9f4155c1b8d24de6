"""The folder of samples: its name, the files that a module adds, and pictures of the run's test split."""

from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

from common.errors import UserError
from harness.cli import sample
from harness.config.load import load

DEFAULTS = {"count": 64, "seed": None, "invert": None, "edit": "replace"}


def name_of(**changed):
    options = DEFAULTS | {"seed": 0} | changed
    return sample._name(SimpleNamespace(options=options, changed=changed), DEFAULTS)


def test_a_folder_is_named_by_what_was_asked():
    assert name_of(count=5) == "count-5_seed-0"
    assert name_of(edit="perturb", seed=3) == "count-64_seed-3_edit-perturb"
    assert name_of(invert="test:3") == "count-64_seed-0_invert-test-3"


def test_paths_are_short_in_names_and_remain_different():
    long = "/".join(["a folder of some depth"] * 30)
    names = {name_of(invert=f"{long}/{end}") for end in ("face.png", "Face.PNG", f"{'f' * 300}.png")}
    names |= {name_of(invert=f"other/{end}") for end in ("face.png",)}
    assert len(names) == 4
    assert all(len(name) < 100 and "/" not in name for name in names)
    assert sum("invert-face.png-" in name for name in names) == 3


def test_files_of_the_module_are_kept_with_the_pictures(tmp_path):
    made = []

    def batches():
        yield torch.zeros(2, 3, 4, 12)
        made.append("latent")

    def files():
        # They are made along with the images, so they are asked for last.
        return {f"{made[0]}.safetensors": b"content"}

    sample._write(tmp_path / "samples" / "one", batches(), (), files, 3, {})
    names = sorted(path.name for path in (tmp_path / "samples" / "one").iterdir())
    assert names == ["00000.png", "00001.png", "grid.png", "latent.safetensors", "samples.json"]
    assert (tmp_path / "samples" / "one" / "latent.safetensors").read_bytes() == b"content"
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["one"]


def test_pictures_of_the_test_split_are_the_runs():
    composed = load(["experiment=linkgan_features", "debug=tiny"])
    config = {"data": OmegaConf.to_container(composed.data, resolve=True)}
    picture = sample._test_picture(config, 3)
    assert picture.shape == (3, 16, 16)
    assert -1 <= picture.min() < picture.max() <= 1
    assert not torch.equal(picture, sample._test_picture(config, 2))
    last = config["data"]["test_size"]
    with pytest.raises(UserError, match=f"test has {last} images, 0 to {last - 1}; asked: {last}"):
        sample._test_picture(config, last)


def test_every_module_has_what_the_harness_calls():
    from lightning_modules.base import BasePaper

    assert BasePaper.test_picture is None
    assert not BasePaper.sample_files(SimpleNamespace(), {})
