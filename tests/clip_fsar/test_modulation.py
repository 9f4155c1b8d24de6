"""Prototypes that read the class name, against the equations of §2.4 and §2.5, and queries that read none."""

import math

import torch
from torch.nn import functional

from lightning_modules.clip_fsar.modulation import TemporalTransformer, clips, named_clips, prototypes
from lightning_modules.clip_fsar.video_text import ensemble, video_text_logits


def context(depth=1):
    torch.manual_seed(0)
    return TemporalTransformer(16, depth, 24).eval()


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_hand(block, x):
    """The block's equations on one sequence [t, d]."""
    attention, outs = block.attention, []
    seen = functional.layer_norm(x, (16,), attention.norm.weight, attention.norm.bias)
    q, k, v = (seen @ layer.weight.T for layer in (attention.query, attention.key, attention.value))
    for head in range(8):
        part = slice(2 * head, 2 * head + 2)
        outs.append((q[:, part] @ k[:, part].T / math.sqrt(2)).softmax(dim=-1) @ v[:, part])
    x = x + torch.cat(outs, dim=1) @ attention.out.weight.T + attention.out.bias
    first, last = block.layers[0], block.layers[3]
    return x + functional.gelu(x @ first.weight.T + first.bias) @ last.weight.T + last.bias


def test_the_name_is_one_more_token_and_is_left_out_again():
    # The name is the last token, and the outputs of the frames are kept (§2.5).
    model, frames, name = context(), drawn(2, 8, 16), drawn(2, 16, seed=1)
    found = named_clips(model, frames, name)
    assert found.shape == (2, 8, 16)
    for clip, word, out in zip(frames, name, found, strict=True):
        assert torch.allclose(by_hand(model[0], torch.cat([clip, word[None]]))[:8], out, atol=1e-5)
    assert torch.allclose(clips(model, frames)[0], by_hand(model[0], frames[0]), atol=1e-5)


def test_frames_keep_no_place_in_the_transformer():
    model, frames, name = context(2), drawn(1, 8, 16), drawn(1, 16, seed=1)
    order = torch.tensor([3, 1, 7, 0, 2, 6, 5, 4])
    assert torch.allclose(
        named_clips(model, frames[:, order], name), named_clips(model, frames, name)[:, order], atol=1e-5
    )


def test_names_and_sizes_are_those_of_the_table():
    # One norm before attention, none before the layers and none at the end; projections without a bias (§2.4).
    torch.manual_seed(0)
    shapes = {name: tuple(value.shape) for name, value in TemporalTransformer(32, 1).state_dict().items()}
    assert shapes == {
        "0.attention.norm.weight": (32,),
        "0.attention.norm.bias": (32,),
        "0.attention.query.weight": (32, 32),
        "0.attention.key.weight": (32, 32),
        "0.attention.value.weight": (32, 32),
        "0.attention.out.weight": (32, 32),
        "0.attention.out.bias": (32,),
        "0.layers.0.weight": (2048, 32),
        "0.layers.0.bias": (2048,),
        "0.layers.3.weight": (32, 2048),
        "0.layers.3.bias": (32,),
    }
    dropouts = [part.p for part in TemporalTransformer(32, 1).modules() if isinstance(part, torch.nn.Dropout)]
    assert sorted(dropouts) == [0.05, 0.05, 0.2]


def test_features_are_not_normalised_before_the_transformer():
    # Their scale matters (§2.2).
    model, frames = context(), drawn(1, 8, 16)
    assert not torch.allclose(clips(model, 3 * frames), 3 * clips(model, frames), atol=0.01)
    assert not torch.allclose(clips(model, 3 * frames), clips(model, frames), atol=0.01)


def test_merging_before_and_after_agree_for_one_shot_only():
    # Which of both is an option (§2.5).
    model, names = context(), drawn(2, 5, 16, seed=1)
    for shots, agree in ((1, True), (5, False)):
        support = drawn(2, 5, shots, 8, 16)
        before, after = (prototypes(model, support, names, average_shots_first=merge) for merge in (True, False))
        assert before.shape == (2, 5, 8, 16)
        assert torch.allclose(before, after, atol=1e-5) is agree
    expected = torch.stack([named_clips(model, support[:, :, k], names) for k in range(5)]).mean(dim=0)
    assert torch.allclose(after, expected, atol=1e-5)
    assert torch.allclose(before, named_clips(model, support.mean(dim=2), names), atol=1e-5)


def test_without_names_prototypes_are_clips():
    model, support = context(), drawn(1, 5, 1, 8, 16)
    assert torch.allclose(
        prototypes(model, support, None, average_shots_first=True), clips(model, support[:, :, 0]), atol=1e-6
    )


def test_a_block_of_nothing_changes_nothing():
    frames = drawn(2, 5, 8, 16)
    assert torch.equal(clips(TemporalTransformer(16, 0), frames), frames)


def test_video_text_logits_are_scaled_cosines_of_mean_frames():
    frames, names = drawn(2, 3, 8, 16), drawn(7, 16, seed=1)
    found = video_text_logits(frames, names, torch.tensor(2.0))
    expected = 2 * functional.cosine_similarity(frames[1, 2].mean(dim=0), names[4], dim=0)
    assert found.shape == (2, 3, 7)
    assert torch.allclose(found[1, 2, 4], expected, atol=1e-6)
    own = video_text_logits(frames, torch.stack([names[:5], names[2:]]), 1.0)
    assert own.shape == (2, 3, 5)
    assert torch.allclose(2 * own[1, 2, 2], expected, atol=1e-6)


def test_the_ensemble_is_a_product_of_powers():
    text, distances = drawn(4, 5), drawn(4, 5, seed=1)
    found = ensemble(text, distances, 8, 0.9)
    expected = text.softmax(-1) ** 0.9 * ((8 - distances) / 8).softmax(-1) ** 0.1
    assert torch.allclose(found, expected, atol=1e-6)
    assert torch.equal(ensemble(text, distances, 8, 1.0).argmax(-1), text.argmax(-1))
    assert torch.equal(ensemble(text, distances, 8, 0.0).argmax(-1), (-distances).argmax(-1))


def test_cosines_keep_their_precision_under_autocast():
    # Cosines need single precision (§2.6).
    frames, names = drawn(2, 3, 8, 16), drawn(7, 16, seed=1)
    plain = video_text_logits(frames, names, 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = video_text_logits(frames, names, 1.0)
    assert torch.equal(plain, mixed)
