import copy
import re
from pathlib import Path

import pytest
import timm
import torch
from beartype import beartype
from jaxtyping import jaxtyped
from omegaconf import OmegaConf
from torch import nn

from common.errors import UserError
from common.targets import build_target
from tests.tuners.u_backbones import BUILDERS, PATTERNS, build, output_of, spec, vit
from tuners.branches import Adapter, Bank
from tuners.sites import sites
from tuners.u_tuning import UTuning

CONF = Path(__file__).parents[2] / "conf" / "tuner"
OURS = ["u_mha", "u_ffn", "u_block", "u_tuning", "adapter", "adapter_parallel"]
IMAGE = torch.randn(2, 3, 16, 16)


def ops_of(case, name):
    found = {site.op for site in sites(case.network, case.args, case.kwargs, PATTERNS.get(name, {}))}
    return sorted(found | ({"block"} if "conv" in found else set()))


def attach(case, name, specs):
    tuner = UTuning(lr=1.0, specs=specs)
    return tuner.attach(case.network, *case.args, patterns=PATTERNS.get(name), **case.kwargs)


def everything(case, name, **changes):
    """Every free branch beside every op."""
    kinds = [
        {"tuner": "adapter"},
        {"tuner": "adapter", "input": "op_out", "activation": "silu"},
        {"tuner": "prefix", "gate": "learned"},
        {"tuner": "prompt"},
        {"tuner": "prompt", "query": "low_rank"},
    ]
    return [spec(op=op, **kind | changes) for op in ops_of(case, name) for kind in kinds]


def loss(output):
    """Weights at random: a constant shift is invisible behind a normalisation."""
    return (output * torch.randn(output.shape, generator=torch.Generator().manual_seed(1))).sum()


def hooks(network):
    return [hook for module in network.modules() for hook in (*module._forward_hooks, *module._forward_pre_hooks)]


@pytest.mark.parametrize("name", BUILDERS)
def test_family(name):
    case = build(name)
    before, keys = case.run(), list(case.network.state_dict())
    tuner = attach(case, name, everything(case, name))
    assert list(case.network.state_dict()) == keys
    after = case.run()
    assert (after - before).abs().max() > 1e-3
    loss(after).backward()
    silent = [key for key, p in tuner.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent
    assert all(p.grad is None for p in case.network.parameters())
    assert len({id(p) for p in tuner.trainable_parameters()}) == len(list(tuner.parameters()))
    with tuner.enabled(False):
        off = case.run()
    assert torch.equal(case.run(), after)
    tuner.detach()
    assert not hooks(case.network)
    assert torch.equal(case.run(), before)
    # With hooks on it, torch's own encoder layer takes its slow path.
    torch.testing.assert_close(off, before) if "torch" in name else torch.testing.assert_close(
        off, before, rtol=0, atol=0
    )


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("init", ["zero", "lora"])
def test_zero_init_is_the_identity_and_then_all_moves(name, init):
    case = build(name)
    with torch.no_grad():
        before = case.run()
    specs = [spec(op=op, init=init) for op in ops_of(case, name)]
    if init == "zero":
        specs += [spec(op=op, tuner="prefix", init=init) for op in ops_of(case, name)]
        specs += [spec(op=op, tuner="prompt", init=init, gate="learned") for op in ops_of(case, name)]
    tuner = attach(case, name, specs)
    with torch.no_grad():
        now = case.run()
    torch.testing.assert_close(now, before) if "torch" in name else torch.testing.assert_close(
        now, before, rtol=0, atol=0
    )
    start = {key: p.detach().clone() for key, p in tuner.named_parameters()}
    optimizer = torch.optim.SGD(tuner.trainable_parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        loss(case.run()).backward()
        optimizer.step()
    assert [key for key, p in tuner.named_parameters() if torch.equal(p, start[key])] == []


@pytest.mark.parametrize("name", ["timm_vit", "open_clip_vit", "timm_resnet", "unet_condition"])
def test_copies_are_independent(name):
    case = build(name)
    tuner = attach(case, name, everything(case, name))
    both = nn.ModuleDict({"network": case.network, "tuner": tuner})
    expected = case.run()
    twin = copy.deepcopy(both)
    alone = copy.deepcopy(case.network)
    assert twin["tuner"].backbone is twin["network"]
    with torch.no_grad():
        for parameter in twin["tuner"].parameters():
            parameter.add_(0.5)
    assert torch.equal(case.run(), expected)
    assert torch.equal(output_of(alone, *case.args, **case.kwargs), expected)
    assert not torch.allclose(output_of(twin["network"], *case.args, **case.kwargs), expected)
    twin["tuner"].detach()
    assert torch.equal(case.run(), expected)
    assert not hooks(twin["network"])


@pytest.mark.parametrize("op", ["mha", "ffn", "block"])
@pytest.mark.parametrize("source", ["op_in", "op_out"])
def test_branches_on_one_op_add(op, source):
    """For two of them the sum does not depend on the order at all, also where they read what the op gives."""
    network = vit()
    is_frozen = op == "mha" and source == "op_in"
    other = spec(op=op, tuner="prefix", input=source, query="frozen" if is_frozen else "free")
    specs = [spec(op=op, input=source), other]
    first, second = UTuning(lr=1.0, specs=specs), UTuning(lr=1.0, specs=specs[::-1])
    expected = first.attach(network, IMAGE).backbone(IMAGE)
    state = first.state_dict()
    first.detach()
    second.attach(network, IMAGE)
    swap = {"branches.0": "branches.1", "branches.1": "branches.0"}
    second.load_state_dict({re.sub(r"branches\.\d", lambda m: swap[m[0]], key): v for key, v in state.items()})
    assert torch.equal(network(IMAGE), expected)


def test_sum_is_the_sum_of_what_each_adds():
    network, image, outputs = vit(depth=1).double(), IMAGE.double(), []
    specs = [spec(input="op_out"), spec(tuner="prompt"), spec(tuner="prefix", scale=2.0)]
    hook = UTuning(lr=1.0, specs=specs).attach(network, image).sites["blocks/0"]
    network.blocks[0].register_forward_hook(lambda _, __, out: outputs.append(out))
    whole = list(hook.branches)
    for chosen in (whole, *([branch] for branch in whole)):
        hook.branches = nn.ModuleList(chosen)
        network(image)
    hook.is_on = False
    network(image)
    together, *single, plain = outputs
    torch.testing.assert_close(together - plain, sum(out - plain for out in single), rtol=1e-10, atol=1e-12)


def on_meta(specs):
    with torch.device("meta"):
        network = timm.create_model("vit_base_patch16_224", num_classes=100)
    image = torch.empty(1, 3, 224, 224, device="meta")
    tuner = UTuning(lr=1.0, specs=specs).attach(network, image)
    assert network(image).shape == (1, 100)
    return tuner


ALL = [spec(op=op, dim=10) for op in ("mha", "ffn", "block")]
COUNTS = [
    ([spec(op="ffn", dim=10, input="op_out")], 193_656),
    ([spec(op="mha", tuner="prefix", dim=10)], 184_320),
    ([spec(op="mha", tuner="prefix", dim=10, query="frozen", gate="exact")], 184_320),
    ([spec(op="mha", tuner="prompt", dim=10)], 92_160),
    ([spec(op="mha", tuner="prompt", dim=10, query="frozen", gate="exact")], 92_160),
    (ALL, 580_968),
    ([spec(op="block", tuner="prefix", dim=10, gate="learned", layers=[0, -1])], 2 * (2 * 10 * 768 + 1)),
    ([spec(op="block", tuner="prompt", dim=10, query="low_rank", layers=[3])], 3 * 10 * 768),
]


@pytest.mark.parametrize(("specs", "count"), COUNTS)
def test_parameter_counts_of_vit_base(specs, count):
    """§2.7."""
    tuner = on_meta(specs)
    assert tuner.num_trainable() == count
    assert all(parameter.is_meta for parameter in tuner.parameters())


@pytest.mark.parametrize("name", OURS)
def test_config_files_start_as_the_network(name):
    tuner = build_target(OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml")), "tuner")
    network = vit()
    before = network(IMAGE)
    tuner.attach(network, IMAGE)
    assert torch.equal(network(IMAGE), before)


BY_OVERRIDE = [
    ("prefix", "free", "constant", "zero"),
    ("prefix", "frozen", "exact", "xavier"),
    ("prompt", "free", "learned", "zero"),
    ("prompt", "free", "constant", "xavier"),
]


@pytest.mark.parametrize(("kind", "query", "gate", "init"), BY_OVERRIDE)
def test_config_file_by_override(kind, query, gate, init):
    config = OmegaConf.load(CONF / "u_mha.yaml")
    for key, value in (("tuner", kind), ("query", query), ("gate", gate), ("init", init)):
        OmegaConf.update(config, f"specs.0.{key}", value)
    build_target(OmegaConf.to_container(config), "tuner").attach(vit(), IMAGE)


@pytest.mark.parametrize("name", ["timm_resnet", "timm_resnetv2", "plain_conv"])
def test_u_mha_refuses_convolutions_and_names_u_block(name):
    case = build(name)
    with pytest.raises(UserError, match=r"has no op mha, it has block .*: use tuner=u_block") as refusal:
        attach(case, name, [spec(op="mha")])
    assert "\n" not in str(refusal.value)
    assert not hooks(case.network)


WRONG = [
    ({"dim": 0}, "at least 1"),
    ({"query": "frozen"}, "an adapter has query: free and gate: constant"),
    ({"gate": "learned"}, "an adapter has query: free and gate: constant"),
    ({"tuner": "prefix", "query": "frozen"}, "query: frozen needs op: mha"),
    (
        {"tuner": "prefix", "op": "mha", "query": "frozen", "input": "op_out"},
        "query: frozen needs op: mha and input: op_in",
    ),
    ({"tuner": "prefix", "gate": "exact"}, "gate: exact needs query: frozen"),
    ({"tuner": "prefix", "op": "mha", "query": "frozen", "gate": "exact", "init": "zero"}, "gate: exact needs"),
    ({"tuner": "prefix", "op": "mha", "query": "frozen", "gate": "exact", "scale": 2.0}, "gate: exact needs"),
    ({"tuner": "prompt", "init": "lora"}, "init: lora is for adapters"),
    ({"tuner": "prompt", "init": "zero"}, "use gate: learned"),
    ({"tuner": "prefix", "depthwise": True}, "depthwise is for adapters"),
]


@pytest.mark.parametrize(("changes", "words"), WRONG)
def test_what_is_no_method_is_refused(changes, words):
    with pytest.raises(UserError) as refusal:
        UTuning(lr=1.0, specs=[spec(**changes)])
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_no_branch_is_refused():
    with pytest.raises(UserError, match="at least one branch"):
        UTuning(lr=1.0, specs=[])


@pytest.mark.parametrize("layers", [[2], [-3], []])
def test_layers_out_of_range_are_refused(layers):
    with pytest.raises(UserError, match="this network has 2 sites of op block, numbered from 0 to 1"):
        UTuning(lr=1.0, specs=[spec(layers=layers)]).attach(vit(), IMAGE)


def test_layers():
    tuner = UTuning(lr=1.0, specs=[spec(layers=[-1, 1]), spec(op="ffn", layers=[0])]).attach(vit(), IMAGE)
    assert list(tuner.sites) == ["blocks/1", "blocks/0/mlp"]


def test_depthwise_needs_maps_and_starts_as_the_plain_adapter():
    with pytest.raises(UserError, match=r"blocks\.0 has tokens, not maps"):
        UTuning(lr=1.0, specs=[spec(depthwise=True)]).attach(vit(), IMAGE)
    options = {"activation": "gelu", "init": "xavier", "like": {}}
    torch.manual_seed(0)
    plain = Adapter(6, 3, depthwise=False, **options)
    torch.manual_seed(0)
    wide = Adapter(6, 3, depthwise=True, **options)
    wide.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(2, 5, 4, 6)
    torch.testing.assert_close(wide(x), plain(x))
    with torch.no_grad():
        wide.middle.weight.normal_()
    moved = (wide(x + torch.eye(5, 4)[None, :, :, None]) - wide(x)).abs().amax(dim=(0, 3))
    assert moved[0, 1] > 1e-3


@pytest.mark.parametrize("name", ["timm_convnext", "timm_resnet", "unet"])
def test_depthwise_in_networks(name):
    case = build(name)
    before = case.run()
    tuner = attach(case, name, [spec(depthwise=True)])
    after = case.run()
    loss(after).backward()
    assert not torch.allclose(after, before)
    assert all(p.grad.abs().sum() > 0 for p in tuner.parameters())


@pytest.mark.parametrize(("name", "heads"), [("timm_vit", 4), ("open_clip_vit", 2), ("dit", 2), ("timm_resnet", 1)])
def test_heads_are_the_backbones(name, heads):
    case = build(name)
    for op in set(ops_of(case, name)) & {"mha", "ffn", "block"}:
        tuner = attach(case, name, [spec(op=op, tuner="prefix")])
        assert {part.heads for part in tuner.modules() if isinstance(part, Bank)} == {heads}
        tuner.detach()


def test_bank_is_attention_to_its_rows():
    layer = Bank(6, 4, heads=2, shared=False, low_rank=False, init="xavier", like={"dtype": torch.float64})
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    q, k, v = (t.view(-1, t.shape[-2], 2, 3).transpose(1, 2) for t in (x, layer.keys, layer.values))
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(layer(x), expected)


def test_xavier_bounds_are_the_released_ones():
    """Xavier over [1, l, d]: the fans are l d and d."""
    keys = Bank(768, 10, heads=12, shared=True, low_rank=False, init="xavier", like={}).keys
    bound = (6 / (10 * 768 + 768)) ** 0.5
    assert 0.95 * bound < keys.abs().max() <= bound


@pytest.mark.parametrize("shape", [(2, 5, 6), (2, 4, 4, 6)])
def test_annotated_shapes_hold(shape):
    adapter = Adapter(6, 3, activation="relu", init="lora", depthwise=False, like={})
    layer = Bank(6, 3, heads=2, shared=True, low_rank=True, init="xavier", like={})
    for branch in (adapter, layer):
        jaxtyped(typechecker=beartype)(type(branch).forward)(branch, torch.randn(shape))
