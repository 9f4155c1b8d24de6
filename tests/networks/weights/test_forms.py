"""Every form of weights is recognized by name, and fits a network to the bit."""

import json

import pytest
import torch
from safetensors.torch import save_file

from common.errors import UserError
from networks.weights.fitting import fit
from networks.weights.forms import common_prefix, read_weights
from tests.networks.weights.miniature import FORMS, averaged, clip, prefixed, vit, write_shards, write_torchscript


def fitted(path, network=None, **options):
    network = vit(1) if network is None else network
    fit(network, read_weights(str(path), "k"), "k: misfit", **options)
    return network.state_dict()


def equal(found, expected):
    return all(torch.equal(value, expected[name].to(value.dtype)) for name, value in found.items())


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("is_zip", [True, False])
def test_every_form_is_named_and_fits(tmp_path, recwarn, name, is_zip):
    build, form = FORMS[name]
    state = vit(0).state_dict()
    torch.save(build(dict(state)), tmp_path / "a.pth", _use_new_zipfile_serialization=is_zip)
    assert read_weights(str(tmp_path / "a.pth"), "k").form == form
    expected = {key: value.half().float() for key, value in state.items()} if name == "half" else state
    assert equal(fitted(tmp_path / "a.pth"), expected)
    # Nothing surprising was done.
    assert not recwarn


@pytest.mark.parametrize(
    ("build", "form"),
    [
        (
            lambda s: {"state_dict": s, "state_dict_ema": averaged(s)},
            "a checkpoint of timm's trainer, of which the EMA",
        ),
        (lambda s: {"model": s, "model_ema": averaged(s)}, "a checkpoint of DeiT's trainer, of which the EMA"),
        (
            lambda s: {
                "student": prefixed("module.backbone.", s),
                "teacher": prefixed("backbone.", averaged(s)) | {"head.last.weight": torch.ones(2)},
            },
            "DINO's checkpoint, of which the teacher",
        ),
        (
            lambda s: {
                "state_dict": prefixed("net.", s) | prefixed("ema_net.", averaged(s)),
                "pytorch-lightning_version": "2",
            },
            "a checkpoint of Lightning",
        ),
        (lambda s: {"G": s, "G_ema": averaged(s)}, "a plain state dict"),
    ],
)
def test_an_average_is_taken_and_reported(tmp_path, build, form):
    state = dict(vit(0).state_dict())
    torch.save(build(state), tmp_path / "a.pth")
    assert read_weights(str(tmp_path / "a.pth"), "k").form == form
    with pytest.warns(UserWarning, match=r"a\.pth: it holds an average of the weights \(EMA\), which is taken"):
        found = fitted(tmp_path / "a.pth")
    assert equal(found, averaged(state))


def test_safetensors_folders_and_shards(tmp_path):
    state = vit(0).state_dict()
    save_file(prefixed("module.", state), tmp_path / "model.safetensors")
    assert equal(fitted(tmp_path), state)
    shards = tmp_path / "shards"
    shards.mkdir()
    (shards / "model.safetensors.index.json").write_text(json.dumps(write_shards(shards, state)))
    assert equal(fitted(shards), state)
    (shards / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match=r"names 2 files, of which model-00002-of-00002\.safetensors is missing"):
        read_weights(str(shards), "k")
    run = tmp_path / "run" / "checkpoints"
    run.mkdir(parents=True)
    torch.save({"state_dict": prefixed("backbone.", state), "quire": {}}, run / "best.ckpt")
    assert equal(fitted(run.parent), state)


def test_clip_is_recognized_by_its_names(tmp_path):
    state = clip(0).state_dict()
    torch.save({"epoch": 3, "state_dict": prefixed("module.", state)}, tmp_path / "a.pt")
    torch.save({"model": dict(state)}, tmp_path / "b.pt")
    torch.save({key: value for key, value in state.items() if key.startswith("visual.")}, tmp_path / "c.pt")
    write_torchscript(tmp_path / "d.pt", clip(0))
    forms = [read_weights(str(tmp_path / f"{name}.pt"), "k").form for name in "abcd"]
    assert forms == [
        "open_clip's training checkpoint, prefix 'module.'",
        "open_clip's checkpoint under 'model'",
        "open_clip's state dict, prefix 'visual.'",
        "OpenAI's TorchScript archive",
    ]
    for name in "abcd":
        expected = clip(0).half().float() if name == "d" else clip(0)
        assert equal(fitted(tmp_path / f"{name}.pt", clip(1).visual), expected.visual.state_dict())


def test_the_common_prefix_ends_at_a_dot():
    assert common_prefix(["model.conv1.weight", "model.conv2.weight"]) == "model."
    assert common_prefix(["a.b.weight", "a.b.bias"]) == "a.b."
    assert common_prefix(["conv1", "conv2"]) == ""
    assert common_prefix(["a.weight"]) == "a."
