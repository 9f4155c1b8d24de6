"""Trained towers: files in every form, names that open_clip fetches, and the activation that they were trained with."""

import json

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from common.errors import UserError
from networks.backbones import build_backbone, load_weights
from networks.clip.pretrained import load_clip
from networks.clip.towers import build_clip
from tests.networks.clip.test_towers import MINI
from tests.networks.weights.miniature import write_torchscript

NAME, QUICK = "small-clip", "small-clip-quickgelu"
CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
}
OPENAI_NUMBERS = ("input_resolution", "context_length", "vocab_size")


@pytest.fixture(scope="module", autouse=True)
def small_models(tmp_path_factory):
    """Two small models that open_clip knows by name."""
    folder = tmp_path_factory.mktemp("configs")
    (folder / f"{NAME}.json").write_text(json.dumps(CONFIG))
    (folder / f"{QUICK}.json").write_text(json.dumps(CONFIG | {"quick_gelu": True}))
    open_clip.add_model_config(folder)


@pytest.fixture(scope="module")
def clip(small_models):
    torch.manual_seed(0)
    return build_clip(NAME, MINI, 32)


def test_weights_are_read_in_every_form(tmp_path, clip):
    state = clip.state_dict()
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "trained.pt")
    torch.save(state | {"input_resolution": torch.tensor(32)}, tmp_path / "plain.pt")
    save_file(state, tmp_path / "open_clip_model.safetensors")
    for file in ("trained.pt", "plain.pt", "open_clip_model.safetensors"):
        other = build_clip(NAME, MINI, 32)
        load_clip(other, NAME, str(tmp_path / file))
        assert all(torch.equal(value, other.state_dict()[key]) for key, value in state.items())


def test_openais_archives_need_their_activation(tmp_path, clip):
    write_torchscript(tmp_path / "archive.pt", clip, OPENAI_NUMBERS)
    other = build_clip(QUICK, MINI, 32)
    load_clip(other, QUICK, str(tmp_path / "archive.pt"))
    assert all(torch.equal(value.half().float(), other.state_dict()[key]) for key, value in clip.state_dict().items())
    line = r"model\.towers\.name: .* was trained with another GELU \(quick_gelu\) than small-clip has: "
    with pytest.raises(UserError, match=line + "take small-clip-quickgelu"):
        load_clip(clip, NAME, str(tmp_path / "archive.pt"))
    with pytest.raises(UserError, match="open_clip has no ViT-S-32-alt-quickgelu"):
        load_clip(clip, "ViT-S-32-alt", str(tmp_path / "archive.pt"))


def test_hugging_faces_config_tells_the_activation(tmp_path, clip):
    torch.save({"vision_model.embeddings.class_embedding": torch.ones(8)}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps({"vision_config": {"hidden_act": "gelu"}}))
    with pytest.raises(UserError, match=r"another GELU \(gelu\) than small-clip-quickgelu has: take small-clip$"):
        load_clip(clip, QUICK, str(tmp_path))
    with pytest.raises(
        UserError, match=r"does not fit model\.towers\.name=small-clip: it has no 'positional_embedding'"
    ):
        load_clip(clip, NAME, str(tmp_path))


def test_other_towers_and_missing_files_are_told(tmp_path):
    clip = build_clip("mini", MINI, 16)
    with pytest.raises(UserError, match=r"model\.towers\.weights: no file .*none\.pt$"):
        load_clip(clip, "mini", str(tmp_path / "none.pt"))
    torch.save({"state_dict": {"clip.visual.proj": torch.zeros(2)}}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="does not fit"):
        load_clip(clip, "mini", str(tmp_path / "other.ckpt"))
    (tmp_path / "bad.pt").write_bytes(b"no weights")
    with pytest.raises(UserError, match="is no file of weights"):
        load_clip(clip, "mini", str(tmp_path / "bad.pt"))


def test_weights_by_name_are_open_clips(tmp_path, monkeypatch, clip):
    with pytest.raises(UserError, match=r"no file opena; open_clip fetches openai, yfcc15m, cc12m for RN50"):
        load_clip(clip, "RN50", "opena")
    # Told before anything is fetched.
    with pytest.raises(UserError, match=r"another GELU .* take RN50-quickgelu"):
        load_clip(clip, "RN50", "openai")

    def offline(config):
        raise OSError("no network")

    monkeypatch.setattr(open_clip, "download_pretrained", offline)
    with pytest.raises(UserError, match="openai of RN50-quickgelu cannot be fetched: no network"):
        load_clip(clip, "RN50-quickgelu", "openai")
    torch.save(clip.state_dict(), tmp_path / "fetched.pt")
    monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda name: ["own"])
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda name, tag: {"url": "somewhere"})
    monkeypatch.setattr(open_clip, "download_pretrained", lambda config: str(tmp_path / "fetched.pt"))
    other = build_clip(NAME, MINI, 32)
    load_clip(other, NAME, "own")
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in clip.state_dict().items())


def test_an_image_encoder_as_a_backbone_takes_the_same_files(tmp_path):
    torch.manual_seed(0)
    name = f"open_clip:{NAME}"
    source, target = build_backbone(name, 3, 32, own="small"), build_backbone(name, 3, 32, own="small")
    torch.save({f"module.visual.{key}": value for key, value in source.state_dict().items()}, tmp_path / "a.pt")
    load_weights(target, name, str(tmp_path / "a.pt"))
    assert all(torch.equal(value, target.state_dict()[key]) for key, value in source.state_dict().items())
    torch.save({"visual.proj": torch.ones(1)}, tmp_path / "b.pt")
    with pytest.raises(
        UserError, match=r"model\.backbone\.weights: .*b\.pt does not fit model\.backbone\.name=open_clip"
    ):
        load_weights(target, name, str(tmp_path / "b.pt"))
