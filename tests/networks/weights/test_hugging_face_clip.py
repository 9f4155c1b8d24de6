"""CLIP of transformers in our towers: the same features, whichever tower or folder the file has."""

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from networks.weights.fitting import fit
from networks.weights.forms import read_weights
from tests.networks.weights.miniature import clip, prefixed

TOWER = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def config():
    return CLIPConfig(
        text_config=TOWER | {"vocab_size": 40, "max_position_embeddings": 8, "eos_token_id": 39},
        vision_config=TOWER | {"image_size": 32, "patch_size": 8},
        projection_dim=16,
    )


@pytest.fixture(scope="module")
def model(config):
    torch.manual_seed(0)
    return CLIPModel(config).eval()


def features(output):
    return getattr(output, "pooler_output", output)


@pytest.mark.parametrize("form", ["folder", "bin", "prefixed", "old"])
def test_features_are_those_of_transformers(tmp_path, model, form):
    state = dict(model.state_dict())
    if form == "folder":
        model.save_pretrained(tmp_path)
        path = tmp_path
    else:
        path = tmp_path / "pytorch_model.bin"
        if form == "old":
            # Releases before 4.31 kept counters of positions.
            state["text_model.embeddings.position_ids"] = torch.arange(8)[None]
        torch.save(prefixed("model." if form == "prefixed" else "", state), path)
    weights = read_weights(str(path), "k")
    assert weights.form == "Hugging Face's CLIP state dict"
    assert weights.activation == ("quick_gelu" if form == "folder" else None)
    towers = clip(1, quick_gelu=True).eval()
    fit(towers, weights, "k")
    images, texts = torch.randn(3, 3, 32, 32), torch.randint(1, 38, (3, 8))
    texts[:, -1] = 39
    with torch.no_grad():
        assert torch.allclose(
            towers.encode_image(images), features(model.get_image_features(pixel_values=images)), atol=1e-5
        )
        assert torch.allclose(towers.encode_text(texts), features(model.get_text_features(input_ids=texts)), atol=1e-5)
    assert torch.equal(towers.logit_scale, model.logit_scale)


def test_one_tower_alone_fills_the_image_encoder(tmp_path, model):
    # As `CLIPVisionModelWithProjection` saves it.
    state = {k: v for k, v in model.state_dict().items() if k.startswith(("vision_model.", "visual_projection."))}
    torch.save(state, tmp_path / "vision.bin")
    visual = clip(1, quick_gelu=True).visual.eval()
    fit(visual, read_weights(str(tmp_path / "vision.bin"), "k"), "k")
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(visual(images), features(model.get_image_features(pixel_values=images)), atol=1e-5)


def test_a_tower_without_projection_is_recognized(tmp_path, model):
    state = {k: v for k, v in model.state_dict().items() if k.startswith("vision_model.")}
    torch.save(state, tmp_path / "vision.bin")
    found = read_weights(str(tmp_path / "vision.bin"), "k")
    assert found.form == "Hugging Face's CLIP state dict"
    assert found.tensors.keys() == {f"visual.{name}" for name in clip(0).visual.state_dict() if name != "proj"}
