"""Which tensors of a file a network takes, what is resampled, and the first difference in one line."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from common.errors import UserError
from networks.weights.fitting import fit, select
from networks.weights.forms import Weights
from networks.weights.positions import resample_positions
from tests.networks.weights.miniature import clip, vit


def weights(tensors):
    return Weights("a.pth", "a state dict", dict(tensors), {})


def refused(network, tensors, **options):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(UserError) as error:
        fit(network, weights(tensors), "k: a.pth misfits", **options)
    # All or none.
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix("k: a.pth misfits: ")


def test_the_prefix_is_that_of_most_names():
    tensors = {"visual.conv.weight": 1, "visual.norm.weight": 2, "conv.weight": 3, "optimizer.norm.weight": 4}
    chosen = select(weights(tensors), ["conv.weight", "norm.weight"])
    assert (chosen.prefix, chosen.tensors) == ("visual.", {"conv.weight": 1, "norm.weight": 2})
    assert not chosen.is_average


def test_of_two_that_fit_an_average_is_taken_or_else_the_first():
    tensors = {f"{part}.x": n for n, part in enumerate(["encoder_q", "encoder_k"])}
    assert select(weights(tensors), ["x"]).prefix == "encoder_q."
    chosen = select(weights(tensors | {"average.module.x": 2}), ["x"])
    assert chosen == ("average.module.", {"x": 2}, True)


def test_the_first_difference_is_told():
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    state = network.state_dict()
    one = {"0.weight": state["0.weight"]}
    assert refused(network, one) == "it has no '0.bias' and 2 more (the file is a state dict)"
    small = {**state, "0.weight": torch.ones(2, 2)}
    assert refused(network, small).startswith("'0.weight' is [2, 2], should be [3, 2]")
    more = {**state, "0.scale": torch.ones(1)}
    assert refused(network, more).startswith("it has '0.scale', which this network has not")
    # Parts that it does not have are left out where they are known to be beside the point, or the caller knows.
    other = {**state, "2.weight": torch.ones(1)}
    assert refused(network, other).startswith("it has '2.weight'")
    fit(network, weights(other), "", only_parts=True)
    fit(network, weights(other), "", is_unused=lambda name: name == "2.weight")
    fit(network, weights({**state, "head.weight": torch.ones(1), "decoder_pred.bias": torch.ones(1)}), "")


def test_counters_of_batches_and_shapes_of_scalars_may_differ():
    network = nn.Sequential(nn.BatchNorm1d(2))
    state = {name: value for name, value in network.state_dict().items() if not name.endswith("tracked")}
    fit(network, weights(state), "")
    one = nn.Module()
    one.scale = nn.Parameter(torch.zeros(()))
    fit(one, weights({"scale": torch.tensor([2.0])}), "")
    assert one.scale.item() == 2


def test_names_of_other_projects_are_translated_by_timm():
    # DINOv2 has registers under another name, a token for masked patches, and a position for the class token.
    network = vit(1, reg_tokens=2, no_embed_class=True)
    state = dict(vit(0, reg_tokens=2, no_embed_class=True).state_dict())
    theirs = {**state, "mask_token": torch.zeros(1, 16), "register_tokens": state["reg_token"]}
    del theirs["reg_token"]
    theirs["pos_embed"] = torch.cat([torch.ones(1, 1, 16), state["pos_embed"]], dim=1)
    unmarked = {name: value for name, value in theirs.items() if name != "mask_token"}
    assert refused(network, unmarked).startswith("it has no 'reg_token'")
    fit(network, weights(theirs), "k")
    assert torch.equal(network.reg_token, state["reg_token"])
    assert torch.equal(network.cls_token, state["cls_token"] + 1)
    assert torch.equal(network.pos_embed, state["pos_embed"])


# Position embeddings.


def by_hand(embedding, old, new, extra):
    """Resample [n, d] as bicubic interpolation with antialiasing of the grid's picture."""
    grid = embedding[extra:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = functional.interpolate(grid, (new, new), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([embedding[:extra], grid.permute(0, 2, 3, 1).reshape(new * new, -1)])


@pytest.mark.parametrize(("size", "extra"), [(64, {}), (16, {}), (64, {"class_token": False, "global_pool": "avg"})])
def test_a_vit_takes_weights_of_another_image_size(size, extra):
    source, target = vit(0, size, **extra), vit(1, 32, **extra)
    with pytest.warns(UserWarning, match=f"resampled from {size // 8}x{size // 8} to 4x4 patches"):
        fit(target, weights(source.state_dict()), "k")
    expected = by_hand(source.pos_embed[0], size // 8, 4, 0 if extra else 1)
    assert torch.allclose(target.pos_embed[0], expected, atol=1e-6)
    assert torch.equal(target.blocks[0].attn.qkv.weight, source.blocks[0].attn.qkv.weight)


@pytest.mark.parametrize("resnet", [False, True])
def test_clip_takes_weights_of_another_image_size_and_keeps_its_text(resnet):
    source, target = clip(0, 64, resnet=resnet), clip(1, 32, resnet=resnet)
    with pytest.warns(UserWarning, match="resampled"):
        fit(target, weights(source.state_dict()), "k")
    place = "attnpool.positional_embedding" if resnet else "positional_embedding"
    given, found = (network.visual.state_dict()[place] for network in (source, target))
    old, new = (math.isqrt(len(embedding) - 1) for embedding in (given, found))
    assert old == 2 * new
    assert torch.allclose(found, by_hand(given, old, new, 1), atol=1e-6)
    assert torch.equal(target.positional_embedding, source.positional_embedding)


def test_a_texts_positions_are_no_grid():
    network = clip(0)
    tensors = {"positional_embedding": torch.zeros(16, 32)}
    assert resample_positions(network, tensors) == (tensors, [])


def test_other_tokens_or_widths_are_not_resampled():
    network = vit(0)
    state = dict(network.state_dict())
    # Twelve patches are no square, and another width is another network.
    for shape in ([1, 13, 16], [1, 17, 8]):
        assert "'pos_embed' is" in refused(network, state | {"pos_embed": torch.zeros(shape)})
