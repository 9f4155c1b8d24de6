"""The label network: frozen features from a checkpoint, and what is refused."""

import pytest
import torch

from common.errors import UserError
from networks.label_features import LabelFeatures, load_label_features


def checkpoint(path, **changes):
    told = {"in_channels": 1, "label_sizes": [3, 2], "width": 16} | changes
    network = LabelFeatures(1, [3, 2], 16)
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save({"hyper_parameters": told, "state_dict": state | {"right.sum": torch.zeros(())}}, path)
    return network


def test_features_come_back_frozen(tmp_path):
    network = checkpoint(tmp_path / "one.ckpt")
    loaded = load_label_features(str(tmp_path / "one.ckpt"), 1)
    images = torch.randn(3, 1, 32, 32)
    assert torch.equal(network(images), loaded(images))
    assert loaded(images).shape == (3, 16)
    assert [part.shape for part in loaded.logits(images)] == [(3, 3), (3, 2)]
    assert not any(p.requires_grad for p in loaded.parameters())


def test_wrong_feature_weights_are_told(tmp_path):
    checkpoint(tmp_path / "one.ckpt")
    torch.save({"state_dict": {"x": torch.zeros(1)}}, tmp_path / "other.ckpt")
    other = "not a checkpoint of a label network, but a plain training checkpoint"
    for path, channels, told in (("one", 3, "images have 3"), ("other", 1, other), ("third", 1, "no file")):
        with pytest.raises(UserError, match=told):
            load_label_features(str(tmp_path / f"{path}.ckpt"), channels)


def test_a_width_that_cannot_be_grouped_is_refused():
    with pytest.raises(UserError, match="multiple of 16"):
        LabelFeatures(1, [3], 8)


def test_no_path_is_no_network():
    assert load_label_features(None, 3) is None
