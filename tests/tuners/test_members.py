"""Every embedded baseline on every family: it works and can be taken off without a trace, or it refuses in one line."""

import copy

import pytest
import timm
import torch

from common.errors import UserError
from tests.tuners.members import IDENTITY, MEMBERS, SEPARATE, Model, hooks_on, move
from tests.tuners.u_backbones import Case, build, output_of

FAMILIES = ["timm_vit", "open_clip_vit", "timm_convnext", "timm_resnet", "unet_condition"]
VPT_REFUSAL = "one sequence of tokens that goes through all blocks.* use tuner=u_block"
PREFIX_REFUSAL = "none of timm's Attention.*tuner=u_tuning with {op: mha, tuner: prefix, query: frozen, gate: exact}"
ADAPTFORMER_REFUSAL = "residual stream before the norm.* use tuner=u_ffn or tuner=u_block"
REFUSALS = {
    ("vpt_shallow", "timm_convnext"): VPT_REFUSAL,
    ("vpt_shallow", "timm_resnet"): VPT_REFUSAL,
    ("vpt_shallow", "unet_condition"): VPT_REFUSAL,
    ("vpt_deep", "timm_convnext"): VPT_REFUSAL,
    ("vpt_deep", "timm_resnet"): VPT_REFUSAL,
    ("vpt_deep", "unet_condition"): VPT_REFUSAL,
    ("prefix", "open_clip_vit"): PREFIX_REFUSAL,
    ("prefix", "timm_convnext"): PREFIX_REFUSAL,
    ("prefix", "timm_resnet"): PREFIX_REFUSAL,
    ("prefix", "unet_condition"): PREFIX_REFUSAL,
    ("ssf", "open_clip_vit"): "uses visual.transformer.resblocks.0.attn.out_proj without calling it: use tuner=lora",
    ("adaptformer", "timm_convnext"): ADAPTFORMER_REFUSAL,
    ("adaptformer", "timm_resnet"): ADAPTFORMER_REFUSAL,
    ("sidetune", "open_clip_vit"): "one feature vector, which CLIP does not: use tuner=u_block",
    ("sidetune", "unet_condition"): "one feature vector, which UNet2DConditionModel does not: use tuner=u_block",
}
PAIRS = [(member, family) for member in MEMBERS for family in FAMILIES]
WORKING = [pair for pair in PAIRS if pair not in REFUSALS]


def frozen(family):
    """Return a network, frozen as a tuner does it: torch has another path for attention without gradient."""
    case = build(family)
    case.network.requires_grad_(False)
    return case


def in_double(case):
    def to(value):
        return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    case.network.double()
    return Case(case.network, tuple(map(to, case.args)), {name: to(value) for name, value in case.kwargs.items()})


def attached(member, case):
    return MEMBERS[member]().attach(case.network, *case.args, **case.kwargs)


@pytest.mark.parametrize(("member", "family"), REFUSALS)
def test_refusal_is_one_line_and_leaves_no_trace(member, family):
    case = frozen(family)
    before, keys = case.run(), list(case.network.state_dict())
    with pytest.raises(UserError, match=REFUSALS[member, family]) as caught:
        attached(member, case)
    assert "\n" not in str(caught.value)
    assert torch.equal(case.run(), before)
    assert list(case.network.state_dict()) == keys
    assert hooks_on(case.network) == 0


@pytest.mark.parametrize(("member", "family"), WORKING)
def test_output_changes_and_detach_restores(member, family):
    case = frozen(family)
    before, state = case.run(), copy.deepcopy(case.network.state_dict())
    tuner = attached(member, case).eval()
    with torch.no_grad():
        assert (case.run() - before).abs().max() < 1e-5 or member not in IDENTITY
    move(tuner)
    changed = case.run()
    assert not torch.allclose(changed, before, atol=1e-4) or member == "linear"
    if member != "full":
        with tuner.enabled(False):
            assert torch.equal(case.run(), before)
        assert torch.equal(case.run(), changed)
        assert tuner.detach() is case.network
        assert torch.equal(case.run(), before)
        assert list(case.network.state_dict()) == list(state)
        assert all(torch.equal(value, state[name]) for name, value in case.network.state_dict().items())
        assert hooks_on(case.network) == 0
        assert not any(parameter.requires_grad for parameter in case.network.parameters())


@pytest.mark.parametrize(("member", "family"), [pair for pair in WORKING if pair[0] != "linear"])
def test_every_trained_tensor_learns(member, family):
    """Zeros may only hide a partner's gradient, and only at the start (§2.8)."""
    case = in_double(frozen(family))
    tuner = attached(member, case)
    # Softmax does not see a shift of all keys.
    keys = [tuner.layers[int(i)].beta for name, i in tuner._layers.items() if "to_k" in name] if member == "ssf" else []
    trained = [p for p in tuner.trainable_parameters() if not any(p is shift for shift in keys)]
    start = [parameter.detach().clone() for parameter in trained]
    model = Model(case.network, tuner, case.run()[0].numel()).double()
    model.fit(1, *case.args, **case.kwargs)
    assert all(parameter.grad is not None for parameter in tuner.trainable_parameters())
    moved = [not torch.equal(parameter, old) for parameter, old in zip(trained, start, strict=True)]
    # Of LoRA and AdaptFormer, zeros in the second matrix hide the first one's gradient.
    assert all(moved) or (member in ("lora", "adaptformer") and any(not old.any() for old in start))
    model.fit(2, *case.args, **case.kwargs)
    assert not any(torch.equal(parameter, old) for parameter, old in zip(trained, start, strict=True))


@pytest.mark.parametrize(("member", "family"), WORKING)
def test_head_moves_and_backbone_does_not(member, family):
    """Norms' statistics included (§2.8)."""
    case = frozen(family)
    tuner = attached(member, case)
    model = Model(case.network, tuner, case.run()[0].numel())
    head = copy.deepcopy(model.head.state_dict())
    before = {name: value.clone() for name, value in case.network.state_dict().items()}
    own = set(tuner.trained_in_backbone())
    model.fit(5, *case.args, **case.kwargs)
    assert all(not torch.equal(value, head[name]) for name, value in model.head.state_dict().items())
    if member != "full":
        after = case.network.state_dict()
        assert all(torch.equal(value, before[name]) for name, value in after.items() if name not in own)


@pytest.mark.parametrize(("member", "family"), WORKING)
def test_mode_of_the_backbone(member, family):
    case = frozen(family)
    tuner = attached(member, case)
    model = Model(case.network, tuner, 1)
    model.train()
    assert case.network.training == (member == "full")
    assert tuner.training
    model.eval()
    assert not case.network.training
    assert not tuner.training


@pytest.mark.parametrize(("member", "family"), [pair for pair in WORKING if pair[0] != "linear"])
def test_copies_are_independent(member, family):
    """An EMA copy is tuned by its own tuner (§2.8)."""
    case = frozen(family)
    model = Model(case.network, attached(member, case).eval(), 1)
    case.run().sum().backward()
    before = case.run()
    twin = copy.deepcopy(model)
    assert torch.equal(output_of(twin.backbone, *case.args, **case.kwargs), before)
    move(twin.tuner)
    changed = output_of(twin.backbone, *case.args, **case.kwargs)
    assert not torch.equal(changed, before)
    assert torch.equal(case.run(), before)
    move(model.tuner)
    assert torch.equal(output_of(twin.backbone, *case.args, **case.kwargs), changed)


@pytest.mark.parametrize("member", ["vpt_shallow", "vpt_deep", "prefix"])
def test_swin_is_refused(member):
    network = timm.models.SwinTransformer(32, 4, embed_dim=8, depths=(1, 1), num_heads=(2, 2), window_size=4)
    with pytest.raises(UserError, match="SwinTransformer has"):
        MEMBERS[member]().attach(network, torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize("member", ["vpt_shallow", "vpt_deep"])
def test_vpt_refuses_rotary_positions(member):
    case = frozen("timm_eva")
    with pytest.raises(UserError, match=r"position for every token.* use tuner=u_block or tuner=u_mha"):
        attached(member, case)
    assert hooks_on(case.network) == 0


def test_sidetune_refuses_small_images():
    network = timm.models.VisionTransformer(8, 4, embed_dim=8, depth=1, num_heads=2, num_classes=0)
    with pytest.raises(UserError, match="15 pixels and more"):
        MEMBERS["sidetune"]().attach(network, torch.zeros(1, 3, 8, 8))


def test_bitfit_refuses_a_network_without_biases():
    with pytest.raises(UserError, match=r"no biases.* use tuner=lora"):
        MEMBERS["bitfit"]().attach(torch.nn.Linear(2, 2, bias=False), torch.zeros(1, 2))


@pytest.mark.parametrize("member", [name for name in MEMBERS if name != "linear"])
def test_an_example_is_needed(member):
    with pytest.raises(UserError, match="attach needs"):
        MEMBERS[member]().attach(build("timm_vit").network)


@pytest.mark.parametrize("member", SEPARATE)
def test_bitfit_and_full_alone_change_weights_in_place(member):
    case = frozen("timm_vit")
    tuner = attached(member, case)
    assert not set(tuner.trained_in_backbone()) & set(frozen("timm_vit").network.state_dict())
