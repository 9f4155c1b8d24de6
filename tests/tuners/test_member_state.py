"""What is stored of the embedded baselines, where it can be loaded, and what they merge into (§2.8)."""

import io

import pytest
import timm
import torch
from torch import nn

from common.errors import UserError
from tests.tuners.members import MEMBERS, move
from tests.tuners.u_backbones import output_of

IMAGES = torch.linspace(-3, 3, 2 * 3 * 16 * 16).view(2, 3, 16, 16).sin()
MERGING = ["full", "linear", "bitfit", "lora", "ssf"]


def plain_vit():
    return timm.models.VisionTransformer(16, 8, embed_dim=64, depth=3, num_heads=4, num_classes=0).eval()


def fresh_vit(seed=0):
    torch.manual_seed(seed)
    return plain_vit().requires_grad_(False)


def fresh_resnet(seed=0):
    torch.manual_seed(seed)
    return timm.create_model("test_resnet", num_classes=0).eval().requires_grad_(False)


def stored(tuner):
    file = io.BytesIO()
    torch.save(tuner.tuner_state_dict(), file)
    return file


def loaded(file):
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("member", MEMBERS)
def test_state_goes_to_a_fresh_tuner(member):
    network, other = fresh_vit(), fresh_vit()
    tuner = MEMBERS[member]().attach(network, IMAGES).eval()
    move(tuner)
    torch.manual_seed(5)
    twin = MEMBERS[member]().attach(other, IMAGES).eval()
    twin.load_tuner_state_dict(loaded(stored(tuner)))
    assert torch.equal(other(IMAGES), network(IMAGES))


@pytest.mark.parametrize("member", MEMBERS)
def test_state_is_refused_on_another_backbone(member):
    tuner = MEMBERS[member]().attach(fresh_vit(), IMAGES)
    twin = MEMBERS[member]().attach(fresh_vit(1), IMAGES)
    with pytest.raises(UserError, match="trained on another backbone"):
        twin.load_tuner_state_dict(tuner.tuner_state_dict())


@pytest.mark.parametrize("member", [name for name in MEMBERS if name != "linear"])
def test_state_of_another_tuner_is_refused(member):
    other = "bitfit" if member != "bitfit" else "ssf"
    tuner = MEMBERS[other]().attach(fresh_vit(), IMAGES)
    with pytest.raises(UserError, match="weights of another tuner"):
        MEMBERS[member]().attach(fresh_vit(), IMAGES).load_tuner_state_dict(tuner.tuner_state_dict())


@pytest.mark.parametrize("member", [name for name in MEMBERS if name not in ("full", "sidetune")])
def test_stored_size_is_that_of_the_tuner(member):
    tuner = MEMBERS[member]().attach(fresh_vit(), IMAGES)
    state = tuner.tuner_state_dict()
    tensors = [*state["own"].values(), *state["in_backbone"].values()]
    assert sum(tensor.numel() for tensor in tensors) == tuner.num_trainable()
    full = MEMBERS["full"]().attach(fresh_vit(), IMAGES)
    assert stored(tuner).getbuffer().nbytes < 0.2 * stored(full).getbuffer().nbytes


def test_full_stores_running_statistics():
    images = torch.randn(4, 3, 32, 32)
    network = fresh_resnet()
    tuner = MEMBERS["full"]().attach(network, images).train()
    before = {name: value.clone() for name, value in network.named_buffers()}
    for _ in range(3):
        network(images)
    tuner.eval()
    assert all(not torch.equal(value, before[name]) for name, value in network.named_buffers())
    other = fresh_resnet()
    twin = MEMBERS["full"]().attach(other, images).eval()
    twin.load_tuner_state_dict(loaded(stored(tuner)))
    assert torch.equal(other(images), network(images))


@pytest.mark.parametrize("member", MERGING)
def test_merged_equals_tuned_and_loads_into_a_plain_network(member):
    network = fresh_vit()
    tuner = MEMBERS[member]().attach(network, IMAGES).eval()
    move(tuner)
    tuned = network(IMAGES)
    merged = tuner.merge_()
    assert merged is network
    assert not any(parameter.requires_grad for parameter in merged.parameters())
    torch.testing.assert_close(merged(IMAGES), tuned, rtol=0, atol=1e-5)
    plain = plain_vit()
    plain.load_state_dict(merged.state_dict(), strict=True)
    torch.testing.assert_close(plain(IMAGES), tuned, rtol=0, atol=1e-5)
    with pytest.raises(UserError, match="attached to no network"):
        tuner.detach()


@pytest.mark.parametrize("member", ["bitfit", "lora", "ssf"])
def test_merged_in_double_precision(member):
    network, images = fresh_vit().double(), IMAGES.double()
    tuner = MEMBERS[member]().attach(network, images).eval()
    move(tuner)
    tuned = network(images)
    torch.testing.assert_close(tuner.merge_()(images), tuned, rtol=0, atol=1e-12)


def test_ssf_merges_into_convolutions_and_norms_on_maps():
    torch.manual_seed(0)
    network = timm.models.ConvNeXt(depths=(1, 1, 1, 1), dims=(8, 16, 16, 24), ls_init_value=0.5, num_classes=0).eval()
    images = torch.randn(2, 3, 32, 32)
    tuner = MEMBERS["ssf"]().attach(network, images)
    move(tuner)
    tuned = network(images)
    torch.testing.assert_close(tuner.merge_()(images), tuned, rtol=0, atol=1e-5)


def test_ssf_without_bias_is_not_merged():
    network = timm.models.VisionTransformer(16, 8, embed_dim=16, depth=1, num_heads=2, num_classes=0, qkv_bias=False)
    tuner = MEMBERS["ssf"]().attach(network.eval(), IMAGES)
    before, tuned = {k: v.clone() for k, v in network.state_dict().items()}, network(IMAGES)
    with pytest.raises(UserError, match=r"blocks.0.attn.qkv has no bias to take the shift"):
        tuner.merge_()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(network(IMAGES), tuned)


@pytest.mark.parametrize("member", [name for name in MEMBERS if name not in MERGING])
def test_others_have_no_plain_form(member):
    tuner = MEMBERS[member]().attach(fresh_vit(), IMAGES)
    with pytest.raises(UserError, match="no plain form"):
        tuner.merge_()


def test_full_has_no_frozen_network():
    tuner = MEMBERS["full"]().attach(fresh_vit(), IMAGES)
    with pytest.raises(UserError, match="keep a copy made before attach"), tuner.enabled(False):
        pass
    with tuner.enabled(True):
        pass


def test_full_keeps_frozen_what_was_frozen_and_what_has_no_part():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    network.extra = nn.Parameter(torch.zeros(3))
    network[0].weight.requires_grad_(False)
    tuner = MEMBERS["full"]().attach(network, torch.zeros(1, 4))
    assert set(tuner.trained_in_backbone()) == {"0.bias", "1.weight", "1.bias"}


def test_disabled_bitfit_gives_no_gradient():
    network = fresh_vit()
    tuner = MEMBERS["bitfit"]().attach(network, IMAGES)
    with tuner.enabled(False):
        assert not network(IMAGES).requires_grad
    assert network(IMAGES).requires_grad
    assert len(tuner.trained_in_backbone()) == 1 + 3 * 6 + 1


def test_a_tuner_can_be_attached_again():
    network = fresh_vit()
    before = network(IMAGES)
    for member in MEMBERS:
        if member not in ("full", "linear"):
            tuner = MEMBERS[member]()
            for _ in range(2):
                tuner.attach(network, IMAGES)
                move(tuner)
                assert not torch.equal(output_of(network, IMAGES), before)
                tuner.detach()
                assert torch.equal(network(IMAGES), before)
