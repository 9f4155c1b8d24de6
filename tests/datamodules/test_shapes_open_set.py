import numpy as np
import pytest
import torch

from datamodules.memory import pixel_hashes
from datamodules.shapes_open_set import PARTS, ShapesOpenSet, split_classes
from datamodules.worlds import shapes

SMALL = {
    "batch_size": 16, "train_size": 160, "val_size": 80, "test_size": 120, "reference_size": 120, "outlier_size": 112,
}  # fmt: skip


def small(**options):
    return ShapesOpenSet(**SMALL | options)


def test_the_split_is_that_of_the_page():
    parts = split_classes(0)
    assert {name: len(classes) for name, classes in parts.items()} == {
        "known": 40, "unknown": 40, "pretrain": 120, "outlier": 56,
    }  # fmt: skip
    assert sorted(np.concatenate(list(parts.values()))) == list(range(256))
    assert split_classes(0)["known"].tolist() == np.random.default_rng(0).permutation(256)[:40].tolist()
    assert split_classes(1)["known"].tolist() != parts["known"].tolist()


def test_the_sizes_are_those_of_the_page():
    data = ShapesOpenSet()
    assert {name: len(data.source(name)) for name in data.test_names} == {
        "train": 8000, "known": 4000, "unknown": 4000, "references": 4000,
    }  # fmt: skip
    assert (np.bincount(data.source("train").labels) == 200).all()
    assert (np.bincount(data.source("references").labels) == 100).all()


def test_images_are_of_the_classes_they_are_labelled_with():
    data = small()
    for name, part in (("known", "known"), ("unknown", "unknown"), ("train", "known"), ("outlier", "outlier")):
        source = data.source(name)
        assert source.labels.tolist() == [k % PARTS[part] for k in range(len(source))]
    # The mean colour of a class's images stands out in its hue: a check of labels against pixels.
    known = ShapesOpenSet(test_size=4000).source("known")
    classes = split_classes(0)["known"]
    mean = np.stack([known.pixels[known.labels == k].mean(axis=(0, 2, 3)) for k in range(40)])
    for hue, channel in ((0, 0), (3, 1), (5, 2)):
        of_hue = np.array([shapes.attributes(int(label)).hue == hue for label in classes])
        assert mean[of_hue, channel].mean() > mean[~of_hue, channel].mean() + 3


def test_no_two_splits_share_an_image():
    data = small(outliers=True)
    names = ["train", "val", "known", "unknown", "references", "outlier"]
    hashes = np.concatenate([pixel_hashes(data.source(name).pixels) for name in names])
    assert len(np.unique(hashes)) == len(hashes) == sum(len(data.source(name)) for name in names)


def test_the_seed_changes_the_images_and_not_the_classes():
    first, second = small(seed=0), small(seed=1)
    assert not np.array_equal(first.source("train").pixels, second.source("train").pixels)
    assert np.array_equal(first._splits["train"][0], second._splits["train"][0])
    assert first.fingerprint() != second.fingerprint()
    assert first.fingerprint() == small(seed=0).fingerprint()
    assert first.fingerprint() != small(seed=0, test_size=40).fingerprint()


def test_pretraining_never_sees_a_class_of_the_open_set_test():
    data = small(role="pretrain", num_known=120)
    assert data.test_names == ["train", "known", "unknown"]
    assert data.reference_ood is None
    trained = data._splits["train"][0]
    assert sorted(trained) == sorted(split_classes(0)["pretrain"])
    seen = np.concatenate([classes for name, (classes, _) in data._splits.items() if name in {"train", "unknown"}])
    assert not set(seen) & {*split_classes(0)["known"], *split_classes(0)["unknown"]}
    assert not np.array_equal(data.source("train").pixels, small(num_known=40).source("train").pixels)


def test_the_graded_halves_are_the_near_and_the_far_classes():
    data = small(near_far_splits=True)
    assert data.test_names == ["train", "known", "unknown", "unknown_near", "unknown_far", "references"]
    near, far = data.source("unknown_near"), data.source("unknown_far")
    assert len(near) + len(far) == len(data.source("unknown"))
    near_classes, far_classes = set(near.labels), set(far.labels)
    assert len(near_classes) == len(far_classes) == 20
    assert not near_classes & far_classes
    nearness = data.nearness()
    assert min(nearness[list(near_classes)]) >= max(nearness[list(far_classes)])
    assert nearness[list(near_classes)].mean() > nearness[list(far_classes)].mean()
    known = split_classes(0)["known"].tolist()
    assert nearness[0] == sum(shapes.shared(int(split_classes(0)["unknown"][0]), other) == 2 for other in known)


def test_images_are_rendered_once(monkeypatch):
    data, calls = small(), []
    render = shapes.render
    monkeypatch.setattr(shapes, "render", lambda *args: calls.append(args) or render(*args))
    assert calls == []
    for stage in ("fit", "test", "fit"):
        data.setup(stage)
        data.train_dataloader()
        data.val_dataloader()
        data.test_dataloader()
    assert len(calls) == 5


def test_a_fake_batch_is_like_a_true_one():
    for outliers in (False, True):
        data = small(outliers=outliers)
        true = next(iter(data.train_dataloader()))
        fake = small(outliers=outliers).fake_batch(16)
        assert {key: (value.shape, value.dtype) for key, value in fake.items()} == {
            key: (value.shape, value.dtype) for key, value in true.items()
        }
        assert ("outlier" in true) == outliers
        assert -1 <= true["image"].min() < -0.5 < 0.5 < true["image"].max() <= 1


def test_test_loaders_keep_the_order_of_the_index():
    data = small(near_far_splits=True, test_size=123)
    for name, loader in zip(data.test_names, data.test_dataloader(), strict=True):
        batches = list(loader)
        source = data.source(name)
        assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(len(source)))
        assert torch.cat([batch["label"] for batch in batches]).tolist() == source.labels.tolist()
        images = torch.cat([batch["image"] for batch in batches])
        assert torch.allclose(images, torch.from_numpy(source.pixels).float() / 127.5 - 1, atol=1e-6)


def test_outliers_come_from_their_own_source():
    data = small(outliers=True)
    batch = next(iter(data.train_dataloader()))
    outliers = torch.from_numpy(data.source("outlier").pixels).float() / 127.5 - 1
    for image in batch["outlier"]:
        assert (outliers - image).abs().flatten(1).amax(1).min() < 1e-6


def test_validation_is_of_the_known_classes_and_not_the_test():
    data = small()
    labels = torch.cat([batch["label"] for batch in data.val_dataloader()])
    assert len(labels) == 80
    assert labels.max() < 40


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_known": 41}, "num_known is 41"),
        ({"num_unknown": 0}, "num_unknown is 0"),
        ({"role": "pretrain", "outliers": True}, "outliers"),
    ],
)
def test_what_the_split_cannot_give_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        small(**options)
