import pytest
import torch

from common.errors import UserError
from tests.tuners.u_backbones import BUILDERS, PATTERNS, build, vit
from tuners.sites import find, sites

# By family: op -> (number of sites, layouts, item of a tuple).
EXPECTED = {
    "timm_vit": {"mha": (2, "BNC", None), "ffn": (2, "BNC", None), "block": (2, "BNC", None)},
    "timm_eva": {"mha": (2, "BNC", None), "ffn": (2, "BNC", None), "block": (2, "BNC", None)},
    "open_clip_vit": {"mha": (2, "BNC", 0), "ffn": (2, "BNC", None), "block": (2, "BNC", None)},
    "timm_convnext": {"ffn": (4, "NHWC", None), "block": (4, "NCHW", None)},
    "timm_convnext_conv_mlp": {"ffn": (4, "NCHW", None), "block": (4, "NCHW", None)},
    "timm_resnetv2": {"block": (2, "NCHW", None)},
    "unet": {"mha": (4, "NCHW", None), "conv": (8, "NCHW", None)},
    "unet_condition": {
        "mha": (8, "BNC", None),
        "ffn": (4, "BNC", None),
        "block": (4, "BNC", None),
        "conv": (8, "NCHW", None),
    },
    "dit": {"mha": (2, "BNC", None), "ffn": (2, "BNC", None), "block": (2, "BNC", None)},
    "torch_encoder": {"mha": (2, "BNC", 0), "block": (2, "BNC", None)},
    "torch_encoder_batch_second": {"mha": (2, "NBC", 0), "block": (2, "NBC", None)},
    "plain_conv": {"block": (2, "NCHW", None)},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_sites_of_family(name):
    case = build(name)
    found = sites(case.network, case.args, case.kwargs, PATTERNS.get(name, {}))
    by_op = {}
    for site in found:
        assert case.network.get_submodule(site.name) is site.module
        by_op.setdefault(site.op, []).append((site.layout, site.out_index))
    assert {op: (len(seen), *seen[0]) for op, seen in by_op.items()} == EXPECTED[name]
    assert all(len(set(seen)) == 1 for seen in by_op.values())


@pytest.mark.parametrize("name", BUILDERS)
def test_probing_leaves_no_trace(name):
    case = build(name)
    case.network.train()
    next(iter(case.network.children())).eval()
    modes = [module.training for module in case.network.modules()]
    state = {key: value.clone() for key, value in case.network.state_dict().items()}
    sites(case.network, case.args, case.kwargs, PATTERNS.get(name, {}))
    assert [module.training for module in case.network.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in case.network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in case.network.modules())


def test_stride_and_channels():
    case = build("timm_resnetv2")
    first, second = find(case.network, case.args, case.kwargs, {}, ["block"])["block"]
    assert (first.dim_in, first.dim_out, first.same_size) == (8, 16, True)
    assert (second.dim_in, second.dim_out, second.same_size) == (16, 32, False)


@pytest.mark.parametrize("size", [32, 128])
def test_layout_where_width_equals_channels(size):
    """The maps of 32 x 32 images are 8 x 8 where there are 8 channels, those of 128 x 128 are 16 x 16 where 16."""
    for name in ("timm_convnext", "timm_convnext_conv_mlp"):
        found = sites(build(name).network, (torch.randn(2, 3, size, size),), {}, {})
        assert {site.layout for site in found if site.op == "block"} == {"NCHW"}
        assert {site.dim_out for site in found} == {8, 16, 24}


def test_order_is_that_of_the_forward_pass():
    case = build("unet")
    names = [site.name for site in find(case.network, case.args, case.kwargs, {}, ["mha"])["mha"]]
    assert [name.split("_")[0] for name in names] == ["down", "mid", "up", "up"]


def test_text_tower_is_left_alone():
    case = build("open_clip_vit")
    found = sites(case.network, (*case.args, torch.zeros(2, 8, dtype=torch.long)), {}, {})
    assert found
    assert all(site.name.startswith("visual.") for site in found)


def test_block_of_a_unet_without_transformers_is_its_conv_block():
    case = build("unet")
    assert {site.op for site in find(case.network, case.args, case.kwargs, {}, ["block"])["block"]} == {"conv"}


def test_pattern_replaces_what_the_family_says():
    found = find(vit(), (torch.randn(1, 3, 16, 16),), {}, {"ffn": r"blocks\.\d+\.mlp\.fc2"}, ["ffn", "mha"])
    assert [site.name for site in found["ffn"]] == ["blocks.0.mlp.fc2", "blocks.1.mlp.fc2"]
    assert (found["ffn"][0].dim_in, found["ffn"][0].dim_out) == (128, 32)
    assert len(found["mha"]) == 2


REFUSALS = [
    (build, "timm_resnetv2", {}, "mha", "ResNetV2 has no op mha, it has block (2): use tuner=u_block, or name the mod"),
    (build, "torch_encoder", {}, "ffn", "it has mha (2), block (2): use tuner=u_mha or tuner=u_block"),
    (build, "plain_conv", {}, "block", "is of no known family, so it has no op block: name the modules by a pattern"),
    (build, "plain_conv", {"block": "nothing"}, "block", "pattern 'nothing' for op block names nothing"),
    (build, "plain_conv", {"block": "3"}, "block", "that takes and gives tokens or maps"),
    (build, "plain_conv", {"block": "["}, "block", "is no regular expression"),
    (build, "plain_conv", {"layer": "1"}, "block", "patterns name the ops mha, ffn, block, conv, not layer"),
]


@pytest.mark.parametrize(("builder", "name", "patterns", "op", "words"), REFUSALS)
def test_refusal_is_one_line_that_says_what_would_work(builder, name, patterns, op, words):
    case = builder(name)
    with pytest.raises(UserError) as refusal:
        find(case.network, case.args, case.kwargs, patterns, [op])
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_without_example_is_refused():
    with pytest.raises(UserError, match="attach needs the inputs of one forward pass"):
        sites(vit(), (), {}, {})
