"""The conditioned U-Net: what is absent or dropped contributes nothing."""

import pytest
import torch

from common.errors import UserError
from networks.diffusion.conditioned_unet import build_conditioned_unet
from networks.diffusion.conditions import Conditions
from tests.networks.diffusion.build import CONDITIONED, conditioned_of, randn

TIMES = torch.tensor([10, 700])
X = randn(2, 3, 8, 8)
# The second stage, where attention is, has 16 pixels: as many tokens are a case of their own.
COUNTS = (4, 16)


def predict(network, conditions=None):
    with torch.no_grad():
        return network(X, TIMES, conditions)


def tokens_of(count, seed=0):
    return randn(2, count, 6, seed=seed)


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("count", COUNTS)
def test_the_content_of_dropped_tokens_has_no_influence_by_a_bit(joint, count):
    network = conditioned_of(joint_attention=joint)
    # Of the first sample every token is dropped, of the second the last ones.
    mask = torch.arange(count)[None] < torch.tensor([[0], [count - 2]])
    tokens, other = tokens_of(count), tokens_of(count, seed=1)
    other = torch.where(mask[..., None], tokens, other)
    other[0, 0] = float("nan")
    found = predict(network, Conditions(tokens, mask))
    assert torch.equal(found, predict(network, Conditions(other, mask)))
    assert torch.isfinite(found).all()
    kept = predict(network, Conditions(tokens))
    assert not torch.allclose(found[0], kept[0])
    assert not torch.allclose(found[1], kept[1])


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("count", COUNTS)
def test_dropped_tokens_are_as_if_they_did_not_exist(joint, count):
    network = conditioned_of(joint_attention=joint)
    tokens = tokens_of(count)
    few = predict(network, Conditions(tokens, (torch.arange(count) < count - 2).expand(2, -1)))
    assert torch.allclose(few, predict(network, Conditions(tokens[:, :-2])), atol=1e-5)
    none = predict(network, Conditions(tokens, torch.zeros(2, count, dtype=torch.bool)))
    assert torch.allclose(none, predict(network), atol=1e-6)


def test_an_absent_vector_and_local_condition_are_zeros():
    network = conditioned_of(has_vector=True, local_channels=2, patch_size=2, attention=[2])
    assert network.vector_width == 32
    zeros = Conditions(vector=torch.zeros(2, 32), local=torch.zeros(2, 2, 8, 8))
    absent = predict(network)
    assert torch.equal(absent, predict(network, zeros))
    for given in (Conditions(vector=randn(2, 32)), Conditions(local=randn(2, 2, 8, 8))):
        assert not torch.allclose(absent, predict(network, given))


@pytest.mark.parametrize("joint", [False, True])
def test_without_masks_it_calls_diffusers_network_as_a_pipeline_does(joint):
    network, tokens = conditioned_of(joint_attention=joint), tokens_of(5)
    with torch.no_grad():
        expected = network.unet(X, TIMES, encoder_hidden_states=tokens).sample
    assert torch.equal(predict(network, Conditions(tokens)), expected)


@pytest.mark.parametrize("joint", [False, True])
def test_heads_have_the_width_asked_for(joint):
    network = conditioned_of(joint_attention=joint, channels=[8, 32], attention=[8, 4])
    found = {
        (part.heads, part.inner_dim // part.heads) for part in network.modules() if type(part).__name__ == "Attention"
    }
    assert found == {(2, 4), (8, 4)}


def test_the_size_of_the_networks_parts():
    # Eight by eight pixels of 12 channels after a stem of 2, cross-attention at both stages and in between.
    options = CONDITIONED | {
        "channels": [32, 48],
        "attention": [8, 4],
        "head_channels": 8,
        "patch_size": 2,
        "norm_num_groups": 8,
        "token_width": 64,
        "scale_shift": False,
    }
    named = dict(build_conditioned_unet(3, 16, options).named_parameters())
    assert sum(weight.numel() for weight in named.values()) == 720_252
    keys_and_values = [w for name, w in named.items() if "attn2.to_k" in name or "attn2.to_v" in name]
    assert sum(weight.numel() for weight in keys_and_values) == 36_864
    wider = dict(build_conditioned_unet(3, 16, options | {"local_channels": 5}).named_parameters())
    assert {name for name in named if named[name].shape != wider[name].shape} == {"unet.conv_in.weight"}


def test_gradients_reach_every_weight_and_every_condition():
    network = conditioned_of(has_vector=True, local_channels=1, gradient_checkpointing=True).train()
    conditions = Conditions(tokens_of(3), vector=randn(2, 32), local=randn(2, 1, 8, 8))
    inputs = [conditions.tokens.requires_grad_(), conditions.vector.requires_grad_(), conditions.local.requires_grad_()]
    network(X, TIMES, conditions).square().mean().backward()
    assert all(part.grad is not None and part.grad.any() for part in [*inputs, *network.parameters()])


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"attention": [3]}, r"tokens need one of \[8, 4\]"),
        ({"patch_size": 3}, "multiple of 6"),
        ({"channels": []}, "at least one stage"),
        ({"norm_num_groups": 3}, "multiple of norm_num_groups"),
    ],
)
def test_what_makes_no_network_is_refused_in_one_line(options, word):
    with pytest.raises(UserError, match=word) as error:
        conditioned_of(**options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "word"),
    [(Conditions(vector=torch.zeros(2, 4)), "network takes none"), (Conditions(local=X), "network takes 0")],
)
def test_conditions_that_it_does_not_take_are_refused(given, word):
    with pytest.raises(UserError, match=word):
        predict(conditioned_of(), given)
