"""Inception's weights by path: of them, and of nothing else in the file, a network is built."""

import pytest
import torch
from safetensors.torch import save_file

from common.errors import UserError
from networks.inception import FEATURES, load_inception


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """Random weights of Inception's layout."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    place = tmp_path_factory.mktemp("inception") / "weights.pth"
    load, torch.load = torch.load, lambda *a, **k: {}
    keep = torch.nn.Module.load_state_dict
    torch.nn.Module.load_state_dict = lambda self, state, *a, **k: None
    try:
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(place))
    finally:
        torch.load, torch.nn.Module.load_state_dict = load, keep
    torch.manual_seed(0)
    state = network.state_dict()
    for name, value in state.items():
        if value.ndim > 1:
            torch.nn.init.kaiming_normal_(value)
        else:
            value.fill_(float(name.endswith(("weight", "var"))))
    return state


class Touch:
    """Makes a file when it is unpickled by rote."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (exec, (f"open({str(self.path)!r}, 'w').close()",))


def test_features_come_from_the_file(state, tmp_path):
    torch.save(state, tmp_path / "a.pth")
    save_file(state, tmp_path / "a.safetensors")
    images = (torch.rand(2, 3, 16, 16) * 255).byte()
    found = [load_inception(str(tmp_path / f"a.{suffix}"))(images) for suffix in ("pth", "safetensors")]
    assert found[0].shape == (2, FEATURES)
    assert found[0].std() > 0
    assert torch.equal(*found)


def test_code_in_the_file_is_not_run(state, tmp_path):
    # torch-fidelity itself would run it.
    torch.save({"state_dict": state, "note": Touch(tmp_path / "touched")}, tmp_path / "a.pth")
    load_inception(str(tmp_path / "a.pth"))
    assert not (tmp_path / "touched").exists()


def test_other_files_are_refused(tmp_path):
    assert load_inception(None) is None
    with pytest.raises(UserError, match=r"evaluation\.inception: no file"):
        load_inception(str(tmp_path / "none.pth"))
    torch.save({"x": torch.ones(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="is not torch-fidelity's Inception, but a plain state dict"):
        load_inception(str(tmp_path / "other.pth"))
