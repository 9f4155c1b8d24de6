"""Weights of other projects load by name, completely, or are refused in one line that says what to do."""

import pickle

import pytest
import torch

from common.errors import UserError
from networks.gan.stylegan2.discriminator import Discriminator
from networks.gan.stylegan2.generator import StyleGAN2
from networks.gan.stylegan2.pretrained import load_stylegan2
from tests.networks.gan.stylegan2 import hammer

KEY = "model.init_from"


def networks(seed, *, w_dim=8, side=16):
    torch.manual_seed(seed)
    sizes = {"channel_base": 64, "channel_max": 8}
    found = [StyleGAN2(8, 0, w_dim, side, 3, mapping_layers=2, **sizes) for _ in range(2)]
    found += [Discriminator(side, 3, **sizes)]
    for network in found:
        for name, value in network.named_parameters():
            if name.endswith(("noise_strength", "bias")):
                torch.nn.init.normal_(value)
        for name, value in network.named_buffers():
            if name.endswith("w_avg"):
                value.normal_()
    return dict(zip(("generator", "average", "discriminator"), found, strict=True))


def nvidia(found):
    names = {"generator": "G", "average": "G_ema", "discriminator": "D"}
    # The reference has a constant that our blocks of the discriminator have not.
    more = {"b16.resample_filter": torch.ones(4, 4)}
    return {
        names[part]: network.state_dict() | (more if part == "discriminator" else {}) for part, network in found.items()
    }


def in_hammer(found, side=16):
    return hammer.checkpoint(found["generator"], found["average"], found["discriminator"], side)


def is_equal(one, other):
    pairs = [(one[part].state_dict(), other[part].state_dict()) for part in one]
    return all(torch.equal(a[name], b[name]) for a, b in pairs for name in a)


@pytest.mark.parametrize("layout", [nvidia, in_hammer])
def test_all_weights_and_buffers_of_three_networks_load(layout, tmp_path):
    theirs, ours, path = networks(0), networks(1), tmp_path / "weights.pth"
    torch.save(layout(theirs), path)
    assert not is_equal(theirs, ours)
    assert load_stylegan2(str(path), KEY, **ours)
    assert is_equal(theirs, ours)
    z, image = torch.randn(2, 8), torch.randn(4, 3, 16, 16)
    for part in ("generator", "average"):
        assert torch.equal(theirs[part](z, noise="const"), ours[part](z, noise="const"))
    assert torch.equal(theirs["discriminator"](image), ours["discriminator"](image))


def test_a_file_of_neither_layout_is_left_alone(tmp_path):
    ours, path = networks(1), tmp_path / "weights.pth"
    torch.save({"backbone.weight": torch.ones(2)}, path)
    assert not load_stylegan2(str(path), KEY, **ours)
    assert is_equal(ours, networks(1))


def test_nvidias_pickle_is_refused_with_the_way_to_export_it(tmp_path):
    path = tmp_path / "ffhq.pkl"
    path.write_bytes(pickle.dumps({"G_ema": 1}))
    with pytest.raises(UserError, match=r"init_from: .*ffhq\.pkl is a pickle.*state_dict\(\).*'G_ema', 'G', 'D'"):
        load_stylegan2(str(path), KEY, **networks(1))


@pytest.mark.parametrize(
    ("layout", "name", "told"),
    [(nvidia, "D", "no D; expected G_ema, G, D"), (in_hammer, "discriminator", "no models.d")],
)
def test_a_missing_network_is_named(layout, name, told, tmp_path):
    content, path = layout(networks(0)), tmp_path / "weights.pth"
    del content.get("models", content)[name]
    torch.save(content, path)
    with pytest.raises(UserError, match=told):
        load_stylegan2(str(path), KEY, **networks(1))


def test_networks_of_another_size_are_refused_with_the_first_difference(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(nvidia(networks(0, w_dim=16)), path)
    with pytest.raises(UserError, match=r"generator is of another network: '.*affine\.weight' is \[8, 16\]"):
        load_stylegan2(str(path), KEY, **networks(1))
    torch.save(in_hammer(networks(0, side=32), 32), path)
    with pytest.raises(UserError, match=r"generator is of another network: it has 'synthesis\.b32"):
        load_stylegan2(str(path), KEY, **networks(1))
    with pytest.raises(UserError, match=r"model\.init_from: no file"):
        load_stylegan2(str(tmp_path / "none.pth"), KEY, **networks(1))
