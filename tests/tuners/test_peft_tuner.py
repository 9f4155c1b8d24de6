"""peft's methods through our wrapper: what they go into, that each added tensor learns, and the network given back."""

import copy

import open_clip
import pytest
import timm
import torch
from torch import nn

from common.errors import UserError
from tests.tuners.members import Model, hooks_on, lora, move, peft_tuner
from tests.tuners.u_backbones import CLIP, build, vit
from tuners.peft_layers import peft_layers

IMAGES = torch.linspace(-3, 3, 2 * 3 * 16 * 16).view(2, 3, 16, 16).sin()
METHODS = {
    "lora": ("LoraConfig", {"r": 2, "lora_alpha": 2}),
    "dora": ("LoraConfig", {"r": 2, "use_dora": True}),
    "rslora": ("LoraConfig", {"r": 2, "use_rslora": True}),
    "loha": ("LoHaConfig", {"r": 2}),
    "lokr": ("LoKrConfig", {"r": 2}),
    "oft": ("OFTConfig", {"oft_block_size": 8}),
    "boft": ("BOFTConfig", {"boft_block_size": 4}),
    "ia3": ("IA3Config", {}),
    "fourierft": ("FourierFTConfig", {"n_frequency": 50}),
    "ln_tuning": ("LNTuningConfig", {}),
}


def tuner_of(method):
    name, kwargs = METHODS[method]
    return peft_tuner(name, **kwargs)


def frozen(family):
    case = build(family)
    case.network.requires_grad_(False)
    return case


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["timm_vit", "unet_condition"])
def test_method_learns_merges_and_goes(method, family):
    case = frozen(family)
    before, state = case.run(), copy.deepcopy(case.network.state_dict())
    tuner = tuner_of(method).attach(case.network, *case.args, **case.kwargs)
    model = Model(case.network, tuner, before[0].numel())
    start = [parameter.detach().clone() for parameter in tuner.trainable_parameters()]
    model.fit(2, *case.args, **case.kwargs)
    assert all(parameter.grad is not None for parameter in tuner.trainable_parameters())
    assert not all(torch.equal(p, old) for p, old in zip(tuner.trainable_parameters(), start, strict=True))
    move(tuner)
    tuned = case.run()
    assert not torch.equal(tuned, before)
    with tuner.enabled(False):
        assert torch.equal(case.run(), before)
    assert torch.equal(case.run(), tuned)
    twin = copy.deepcopy(model)
    torch.testing.assert_close(twin.tuner.merge_()(*case.args, **case.kwargs), case.network(*case.args, **case.kwargs))
    assert list(twin.backbone.state_dict()) == list(state)
    tuner.detach()
    assert torch.equal(case.run(), before)
    assert list(case.network.state_dict()) == list(state)
    assert all(torch.equal(value, state[name]) for name, value in case.network.state_dict().items())
    assert not hasattr(case.network, "peft_config")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", METHODS)
def test_state_goes_to_a_fresh_tuner(method):
    case, other = frozen("timm_vit"), frozen("timm_vit")
    tuner = tuner_of(method).attach(case.network, *case.args)
    move(tuner)
    torch.manual_seed(7)
    twin = tuner_of(method).attach(other.network, *other.args)
    twin.load_tuner_state_dict(tuner.tuner_state_dict())
    assert torch.equal(other.run(), case.run())


TARGETS = {
    "timm_vit": ["blocks.0.attn.qkv", "blocks.1.attn.qkv"],
    "open_clip_vit": ["visual.transformer.resblocks.0.attn", "visual.transformer.resblocks.1.attn"],
    "open_clip_timm": [f"visual.trunk.blocks.{i}.attn.qkv" for i in range(6)],
    "timm_convnext": [f"stages.{s}.blocks.0.mlp.{fc}" for s in range(4) for fc in ("fc1", "fc2")],
    "timm_convnext_conv_mlp": [f"stages.{s}.blocks.0.mlp.{fc}" for s in range(4) for fc in ("fc1", "fc2")],
    "plain_conv": ["0", "1.0", "2.0"],
}


@pytest.mark.parametrize("family", TARGETS)
def test_default_targets(family):
    case = frozen(family)
    lora().attach(case.network, *case.args, **case.kwargs)
    found = [name for name in peft_layers(case.network) if "base_layer" not in name]
    assert found == TARGETS[family]


def test_default_targets_by_kind():
    resnet, unet = frozen("timm_resnet"), frozen("unet_condition")
    lora().attach(resnet.network, *resnet.args)
    bases = [layer.get_base_layer() for layer in peft_layers(resnet.network).values()]
    assert {base.kernel_size for base in bases} == {(1, 1), (3, 3)}
    assert all(name.startswith("layer") for name in peft_layers(resnet.network))
    lora().attach(unet.network, *unet.args, **unet.kwargs)
    names = list(peft_layers(unet.network))
    assert {name.rpartition(".")[2] for name in names} == {"to_q", "to_v"}
    assert len(names) == 4 * 2 * 2


def test_named_targets():
    network = vit()
    tuner = lora(target_modules=["fc1"]).attach(network, IMAGES)
    assert list(peft_layers(network)) == ["blocks.0.mlp.fc1", "blocks.1.mlp.fc1"]
    tuner.detach()
    lora(target_modules=r"blocks\.1\.mlp\.fc\d").attach(network, IMAGES)
    assert list(peft_layers(network)) == ["blocks.1.mlp.fc1", "blocks.1.mlp.fc2"]


def test_out_proj_trains_nothing_and_is_refused():
    """§2.8."""
    torch.manual_seed(0)
    network = open_clip.CLIP(**CLIP).visual.eval().requires_grad_(False)
    keys, before = list(network.state_dict()), network(IMAGES)
    tuner = lora(target_modules=["attn.out_proj"])
    with pytest.raises(
        UserError, match=r"resblocks.0.attn.out_proj would train nothing.*target_modules=transformer.resblocks.0.attn,"
    ):
        tuner.attach(network, IMAGES)
    assert list(network.state_dict()) == keys
    assert torch.equal(network(IMAGES), before)
    assert hooks_on(network) == 0
    tuner = lora(target_modules=["attn"]).attach(network, IMAGES)
    move(tuner)
    assert not torch.allclose(network(IMAGES), before, atol=1e-4)


def test_weights_of_an_attention_do_not_drift():
    """peft's LoRA on nn.MultiheadAttention adds to the weights and subtracts again in every pass."""
    torch.manual_seed(0)
    network = open_clip.CLIP(**CLIP).visual.eval().requires_grad_(False)
    before = copy.deepcopy(network.state_dict())
    tuner = lora(r=4).attach(network, IMAGES)
    move(tuner)
    first = network(IMAGES)
    for _ in range(50):
        network(IMAGES).sum().backward()
    assert torch.equal(network(IMAGES), first)
    attention = network.transformer.resblocks[0].attn.get_base_layer()
    assert torch.equal(attention.in_proj_weight, before["transformer.resblocks.0.attn.in_proj_weight"])
    assert isinstance(attention.in_proj_weight, nn.Parameter)
    network.double()
    assert network(IMAGES.double()).dtype == torch.double
    network.float()
    tuned = network(IMAGES)
    merged = tuner.merge_()
    torch.testing.assert_close(merged(IMAGES), tuned, rtol=0, atol=1e-5)
    plain = open_clip.CLIP(**CLIP).visual
    plain.load_state_dict(merged.state_dict(), strict=True)
    assert list(merged.state_dict()) == list(before)


def test_added_dropout_follows_the_tuner_and_the_backbone_stays_in_eval():
    network = vit(proj_drop_rate=0.5)
    tuner = lora(lora_dropout=0.5).attach(network, IMAGES)
    move(tuner)
    model = Model(network, tuner, 5).train()
    assert not network.training
    assert not network.blocks[0].attn.qkv.get_base_layer().training
    assert not network.blocks[0].mlp.drop1.training
    assert not torch.equal(network(IMAGES), network(IMAGES))
    model.eval()
    assert torch.equal(network(IMAGES), network(IMAGES))


def test_new_residual_blocks_that_start_at_zero_are_no_reason_to_refuse():
    network = timm.models.ResNet(timm.models.resnet.BasicBlock, (1, 1, 1, 1), channels=(8, 8, 8, 8), num_classes=2)
    state = copy.deepcopy(network.state_dict())
    assert not network.layer1[0].bn2.weight.any()
    tuner = lora().attach(network, torch.randn(2, 3, 32, 32))
    assert all(name.startswith("layer") for name in tuner.trained_in_backbone())
    assert all(torch.equal(value, state[name]) for name, value in tuner.detach().state_dict().items())


REFUSED_SETTINGS = [
    ("LoraConfig", {"rank": 4}, "LoraConfig has no setting 'rank'"),
    ("LoraConfig", {"lora_alfa": 4}, "did you mean 'lora_alpha'"),
    ("LoraConfig", {"target_modules": ["qkv"]}, "name the modules by tuner.target_modules"),
    ("LoraConfig", {"modules_to_save": ["head"]}, "the head is trained anyway"),
    ("LoraConfig", {"bias": "all"}, "use tuner=bitfit"),
    ("LoraConfig", {"init_lora_weights": "pissa"}, "rewrites the frozen weights: use one of True"),
]


@pytest.mark.parametrize(("name", "kwargs", "words"), REFUSED_SETTINGS)
def test_refused_settings(name, kwargs, words):
    with pytest.raises(UserError, match=words):
        peft_tuner(name, **kwargs)


REFUSED = {
    "another method on nn.MultiheadAttention": ("open_clip_vit", "loha", None, "not supported.* use tuner=lora"),
    "DoRA on nn.MultiheadAttention": ("open_clip_vit", "dora", None, "does not support DoRA.* use tuner=lora without"),
    "depth-wise convolution": ("timm_convnext", "lora", ["conv_dw"], "groups.* name other modules by target"),
    "no such module": ("timm_vit", "lora", ["query"], "not found.* name other modules by target"),
    "identity": ("timm_vit", "ln_tuning", ["q_norm"], "no weights, such as nn.Identity"),
    "no layer norm": ("timm_resnet", "ln_tuning", None, "no layer norm.*target_modules="),
    "weights used without the module": ("timm_eva", "lora", None, "would train nothing.*name others by target"),
    "OFT on a 3x3 convolution": ("timm_resnet", "oft", None, "overlapping patches"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", REFUSED)
def test_refused_networks(case):
    family, method, target, words = REFUSED[case]
    network, args, _ = frozen(family)
    keys, before = list(network.state_dict()), build(family).network.state_dict()
    name, kwargs = METHODS[method]
    with pytest.raises(UserError, match=words) as caught:
        peft_tuner(name, target, **kwargs).attach(network, *args)
    assert "\n" not in str(caught.value)
    assert list(network.state_dict()) == keys
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert hooks_on(network) == 0


def test_vera_is_left_to_peft():
    with pytest.raises(UserError, match=r"shared state.* use tuner=lora"):
        peft_tuner("VeraConfig", r=2).attach(vit(), IMAGES)


def test_a_network_with_peft_layers_is_refused():
    network = vit()
    lora().attach(network, IMAGES)
    with pytest.raises(UserError, match="has layers of peft's already"):
        lora().attach(network, IMAGES)
