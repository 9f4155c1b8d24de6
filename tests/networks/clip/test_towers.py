"""Towers by name, the mini-CLIP's words, and features of texts."""

import pytest
import torch

from common.errors import UserError
from networks.clip.mini import check_mini
from networks.clip.tokenizers import tokenize
from networks.clip.towers import build_clip, check_towers, text_features

MINI = {
    "embed_dim": 32,
    "width": 32,
    "layers": 1,
    "patch_size": 8,
    "text_layers": 1,
    "context_length": 12,
    "vocabulary": ["a", "photo", "of", "red", "blue", "disc", "growing"],
}


def test_words_that_the_mini_clip_does_not_know_are_told():
    ids = tokenize("mini", MINI, ["a photo of red disc", "growing"])
    assert ids.shape == (2, 12)
    assert ids[0].tolist() == [1, 2, 3, 4, 6, 8, 0, 0, 0, 0, 0, 0]
    # The feature is taken at the end, which has the largest number.
    assert ids.argmax(dim=1).tolist() == [5, 1]
    with pytest.raises(UserError, match="knows no 'purple'"):
        tokenize("mini", MINI, ["a purple disc"])
    with pytest.raises(UserError, match="has 12 words, the mini-CLIP reads 11"):
        tokenize("mini", MINI, ["a " * 12])


def test_open_clips_tokenizer_is_used_for_its_models():
    ids = tokenize("ViT-B-32", MINI, ["a purple disc"])
    assert ids.shape == (1, 77)
    assert ids[0, 0] == 49406


def test_towers_that_are_none_are_told():
    options = {"name": "mini", "weights": None, "prompt": "a {}"}
    check_towers(options)
    for changes, words in (
        ({"prompt": "a photo"}, "needs one {}, where the class name goes"),
        ({"name": "RN5O"}, r"model\.towers\.name: no model 'RN5O'; take mini or RN50"),
        ({"name": "coca_ViT-B-32"}, "coca_ViT-B-32 is no plain CLIP"),
    ):
        with pytest.raises(UserError, match=words):
            check_towers(options | changes)
    for name, value in (("size", 12), ("width", 8)):
        with pytest.raises(UserError, match=rf"model\.mini\.{name} is {value}, should be a multiple of"):
            check_mini(MINI | {name: value})


def test_text_features_are_as_the_tower_gives_them():
    torch.manual_seed(0)
    clip = build_clip("mini", MINI, 16)
    found = text_features(clip, "mini", MINI, ["a red disc", "a blue disc"])
    assert found.shape == (2, 32)
    assert torch.equal(found, clip.encode_text(tokenize("mini", MINI, ["a red disc", "a blue disc"])))
    assert not torch.allclose(found.norm(dim=-1), torch.ones(2), atol=0.05)
