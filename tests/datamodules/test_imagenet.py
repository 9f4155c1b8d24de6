import shutil

import numpy as np
import pytest
import torch
from timm.data import create_transform, resolve_data_config
from timm.models import get_pretrained_cfg

from datamodules.imagenet import ImageNet, data_config
from tests.datamodules import miniature_imagenet
from tests.datamodules.miniature_imagenet import WNIDS


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("imagenet")
    miniature_imagenet.imagenet(root)
    miniature_imagenet.imagenet_o(root)
    return root


def small(root, **options):
    options = {"num_classes": 5, "batch_size": 4, "num_workers": 0, "image_size": 32, "moments_size": 10} | options
    return ImageNet(root=str(root), **options)


def names(data, split):
    return {path.name for path in data.source(split).paths}


def test_halves_of_val_are_cut_within_every_class(written):
    data = small(written)
    data.check()
    assert data.test_names == ["moments", "test"]
    for split in data.test_names:
        assert np.bincount(data.source(split).labels).tolist() == [2] * 5
    assert not names(data, "moments") & names(data, "test")
    assert names(data, "val") == names(data, "moments")
    assert len(names(data, "fit")) == 30
    assert names(data, "test") == names(small(written, seed=3), "test")
    assert any(names(data, "test") != names(small(written, split_seed=k), "test") for k in range(1, 4))
    assert data.class_names() == list(WNIDS)
    source = data.source("test")
    assert [path.parent.name for path in source.paths] == [WNIDS[k] for k in source.labels]


def test_moments_from_train_leave_val_whole_for_the_test(written):
    data = small(written, moments_from="train")
    data.check()
    assert np.bincount(data.source("moments").labels).tolist() == [2] * 5
    assert len(names(data, "test")) == 20
    assert len(names(data, "fit")) == 20
    assert not names(data, "fit") & names(data, "moments")


def test_imagenet_o_is_tested_beside(written):
    data = small(written, ood_root=str(written / "imagenet-o"))
    data.check()
    assert data.test_names == ["moments", "test", "imagenet_o"]
    source = data.source("imagenet_o")
    assert source.labels.tolist() == [5, 5, 5]
    assert source[0]["image"].shape == (3, 32, 32)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_like_the_fake_one(written, workers):
    data = small(written, num_workers=workers)
    true, fake = next(iter(data.train_dataloader())), data.fake_batch(4)
    assert {key: (value.shape, value.dtype) for key, value in fake.items()} == {
        key: (value.shape, value.dtype) for key, value in true.items()
    }
    moments, test = data.test_dataloader()
    assert torch.cat([batch["index"] for batch in moments]).tolist() == list(range(10))
    assert torch.cat([batch["label"] for batch in test]).tolist() == data.source("test").labels.tolist()


def test_pictures_are_prepared_as_timm_does(written):
    from PIL import Image

    config = resolve_data_config(pretrained_cfg=get_pretrained_cfg("resnet18.a1_in1k").to_dict())
    transform = create_transform(**config | {"input_size": (3, 32, 32)})
    data = small(written, network="resnet18.a1_in1k")
    assert (data.crop_pct, data.interpolation) == (config["crop_pct"], config["interpolation"])
    source = data.source("test")
    with Image.open(source.paths[1]) as file:
        true = transform(file.convert("RGB"))
    # Rounding to whole pixel values between the steps differs by one of 255 at most, here over a deviation of 0.22.
    (found,) = data.on_after_batch_transfer({"image": source[1]["image"][None]}, 0)["image"]
    assert (found - true).abs().max() < 2.5 / 255 / 0.22
    assert small(written, network="resnet18.a1_in1k", mean=[0.1] * 3, std=[0.2] * 3).statistics[0] == [0.1] * 3
    assert torch.equal(source[1]["image"], source[1]["image"])
    assert data_config("vit_small_patch16_224.augreg_in21k_ft_in1k")[0] == [0.5, 0.5, 0.5]
    with pytest.raises(ValueError, match=r"data\.network is 'resnot'"):
        small(written, network="resnot")


def test_what_is_missing_is_one_line_with_the_layout(written, tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        small(tmp_path).check()
    said = str(error.value)
    assert said.startswith(f"no val under data.root={tmp_path}; expected there: train/<wnid>/*.JPEG and val/<wnid>")
    assert "\n" not in said
    shutil.copytree(written / "val", tmp_path / "val")
    small(tmp_path).check()
    with pytest.raises(FileNotFoundError, match="no train under"):
        small(tmp_path, moments_from="train").check()
    with pytest.raises(FileNotFoundError, match=r"no pictures under data\.ood_root"):
        small(tmp_path, ood_root=str(tmp_path / "imagenet-o")).check()
    with pytest.raises(ValueError, match=r"num_classes is 6, but .*val has 5"):
        small(tmp_path, num_classes=6).check()


def test_a_class_that_val_has_not_is_named(written, tmp_path):
    shutil.copytree(written, tmp_path / "part")
    (tmp_path / "part" / "val" / WNIDS[2]).rename(tmp_path / "part" / "val" / "n09999999")
    with pytest.raises(ValueError, match=f"{WNIDS[2]}.* is of a class that"):
        small(tmp_path / "part", moments_from="train").source("moments")


def test_the_fingerprint_follows_split_and_preparation(written):
    first = small(written).fingerprint()
    assert first == small(written, seed=5).fingerprint()
    for options in ({"split_seed": 1}, {"moments_from": "train"}, {"mean": [0.4] * 3}, {"crop_pct": 0.9}):
        assert first != small(written, **options).fingerprint()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"crop_pct": 0.0}, "data.crop_pct"),
        ({"moments_size": 4}, "data.moments_size is 4"),
        ({"moments_from": "test"}, "should be val or train"),
        ({"mean": [2.0, 0.5, 0.5]}, "data.mean"),
    ],
)
def test_bad_values_are_one_line(tmp_path, options, said):
    with pytest.raises(ValueError, match=said) as error:
        small(tmp_path, **options)
    assert "\n" not in str(error.value)
