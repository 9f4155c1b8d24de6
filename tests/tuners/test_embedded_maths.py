"""Each embedded form against its formula, written out slowly, in double precision."""

import math

import pytest
import timm
import torch
from beartype import beartype
from jaxtyping import jaxtyped
from timm.layers import Attention
from torch import nn

from tests.tuners.members import MEMBERS, move
from tests.tuners.u_backbones import build, spec, vit
from tuners.adaptformer import AdaptFormer, Bottleneck
from tuners.prefix import Keys, Places, Prefix, Values
from tuners.sidetune import Side, SideTune
from tuners.ssf import SSF, ScaleShift
from tuners.u_tuning import UTuning
from tuners.vpt import VPT, prefix_tokens, prompt_bound

IMAGES = torch.linspace(-1, 1, 2 * 3 * 16 * 16, dtype=torch.double).view(2, 3, 16, 16).sin()


def double_vit(**options):
    torch.manual_seed(0)
    network = vit(**({"num_classes": 0, "norm_layer": nn.LayerNorm} | options)).double().eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def attend(attention, tokens, keys, values, mask=None):
    heads, width = attention.num_heads, attention.head_dim
    q, k, v = attention.qkv(tokens).unflatten(-1, (3, heads, width)).permute(2, 0, 3, 1, 4)
    q, k = attention.q_norm(q), attention.k_norm(k)
    rows = [x.view(-1, heads, width).transpose(0, 1).expand(len(tokens), -1, -1, -1) for x in (keys, values)]
    logits = q @ torch.cat((k, rows[0]), dim=2).mT / math.sqrt(width)
    if mask is not None:
        logits = logits.masked_fill(~mask, -math.inf)
    mixed = logits.softmax(-1) @ torch.cat((v, rows[1]), dim=2)
    return attention.proj(attention.norm(mixed.transpose(1, 2).flatten(2)))


# Prefix.


@pytest.mark.parametrize("is_fused", [True, False])
@pytest.mark.parametrize("options", [{}, {"qk_norm": True}, {"qkv_bias": True, "scale_norm": True}])
@pytest.mark.parametrize("mask", ["none", "causal", "bool", "added", "keys"])
def test_prefix_is_more_keys_and_values(is_fused, options, mask):
    torch.manual_seed(0)
    attention = Attention(12, 3, norm_layer=nn.LayerNorm, **options).double().eval()
    attention.fused_attn = is_fused
    tokens = torch.randn(2, 5, 12, dtype=torch.double)
    tuner = Prefix(length=4, lr=1e-2).attach(attention, tokens)
    move(tuner)
    allowed = torch.rand(5, 5) > 0.3
    allowed.fill_diagonal_(True)
    keywords = {
        "none": {},
        "causal": {"is_causal": True},
        "bool": {"attn_mask": allowed},
        "added": {"attn_mask": torch.zeros(5, 5, dtype=torch.double).masked_fill(~allowed, -math.inf)},
        "keys": {"attn_mask": allowed[:1].expand(2, 1, 1, 5)},
    }[mask]
    seen = {"none": torch.ones(5, 5, dtype=torch.bool), "causal": torch.ones(5, 5, dtype=torch.bool).tril()}
    seen = seen.get(mask, allowed[:1].expand(5, 5) if mask == "keys" else allowed)
    result = attention(tokens, **keywords)
    with tuner.enabled(False):
        rows = tuner.keys[0].rows[0], tuner.values[0].rows[0]
        expected = attend(attention, tokens, *rows, torch.cat((seen, torch.ones(5, 4, dtype=torch.bool)), dim=1))
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"qk_norm": True}])
def test_prefix_equals_the_exact_parallel_form(options):
    network, other = double_vit(**options), double_vit(**options)
    embedded = Prefix(length=4, lr=1e-2).attach(network, IMAGES)
    branch = spec(op="mha", tuner="prefix", dim=4, query="frozen", gate="exact")
    parallel = UTuning(lr=1e-2, specs=[branch]).attach(other, IMAGES)
    ours = [rows for pair in zip(embedded.keys, embedded.values, strict=True) for rows in pair]
    theirs = list(parallel.parameters())
    assert [p.numel() for p in theirs] == [hook.rows.numel() for hook in ours]
    with torch.no_grad():
        for hook, parameter in zip(ours, theirs, strict=True):
            hook.rows.copy_(parameter.view_as(hook.rows))
    torch.testing.assert_close(network(IMAGES), other(IMAGES), rtol=0, atol=1e-5)


# VPT.


def prompted(network, prompts, *, at_end):
    """Return a ViT's tokens before its last norm, prompts written out: one set (shallow) or one per block (deep)."""
    x = network.norm_pre(network._pos_embed(network.patch_embed(IMAGES)))
    start = x.shape[1] if at_end else network.num_prefix_tokens
    length = prompts[0].shape[1]
    for index, block in enumerate(network.blocks):
        if index < len(prompts):
            rest = x if index == 0 else torch.cat((x[:, :start], x[:, start + length :]), dim=1)
            x = torch.cat((rest[:, :start], prompts[index].expand(2, -1, -1), rest[:, start:]), dim=1)
        x = block(x)
    return torch.cat((x[:, :start], x[:, start + length :]), dim=1)


@pytest.mark.parametrize("deep", [True, False])
@pytest.mark.parametrize("options", [{}, {"reg_tokens": 2}, {"class_token": False, "global_pool": "avg"}])
@pytest.mark.parametrize("at_end", [True, False])
def test_vpt_by_place(deep, options, at_end):
    network = double_vit(depth=3, **options)
    tuner = VPT(length=3, deep=deep, dropout=0.0, lr=1e-2).attach(network, IMAGES)
    move(tuner)
    dense, pooled = network.forward_features(IMAGES), network(IMAGES)
    with tuner.enabled(False):
        expected = network.norm(prompted(network, [hook.prompts for hook in tuner.prompts], at_end=at_end))
        untouched = network.forward_features(IMAGES)
    assert dense.shape == untouched.shape
    torch.testing.assert_close(dense, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(pooled, network.forward_head(expected), rtol=0, atol=1e-12)
    assert (dense - untouched).abs().max() > 1e-3


def test_vpt_deep_leaves_dense_features_in_shape():
    network = double_vit()
    shapes = [maps.shape for maps in network.forward_intermediates(IMAGES, intermediates_only=True)]
    VPT(length=3, deep=True, dropout=0.0, lr=1e-2).attach(network, IMAGES)
    assert [maps.shape for maps in network.forward_intermediates(IMAGES, intermediates_only=True)] == shapes


@pytest.mark.parametrize("deep", [True, False])
def test_vpt_where_tokens_come_before_the_batch(deep):
    tokens, outputs = torch.randn(3, 5, 16), []
    for name, source in (("torch_encoder", tokens), ("torch_encoder_batch_second", tokens.transpose(0, 1))):
        network = build(name).network
        tuner = VPT(length=2, deep=deep, dropout=0.0, lr=1e-2).attach(network, source)
        generator = torch.Generator().manual_seed(3)
        for hook in tuner.prompts:
            hook.prompts.data.normal_(generator=generator)
        outputs.append(network(source))
    torch.testing.assert_close(outputs[0], outputs[1].transpose(0, 1))


def test_vpt_start():
    network = vit(patch_size=4)
    bound = prompt_bound(network, 32)
    assert bound == math.sqrt(6 / (3 * 4 * 4 + 32))
    tuner = VPT(length=200, deep=False, dropout=0.0, lr=1e-2).attach(network, IMAGES.float())
    prompts = tuner.prompts[0].prompts
    assert 0.98 * bound < prompts.abs().max() <= bound
    assert abs(prompts.var().item() / (bound**2 / 3) - 1) < 0.05


def test_vpt_dropout_acts_in_training_only():
    network = double_vit()
    tuner = VPT(length=3, deep=True, dropout=0.5, lr=1e-2).attach(network, IMAGES)
    assert not torch.equal(network(IMAGES), network(IMAGES))
    tuner.eval()
    assert torch.equal(network(IMAGES), network(IMAGES))


@pytest.mark.parametrize(
    ("name", "block", "tokens"),
    [
        ("timm_vit", "blocks.0", 1),
        ("open_clip_vit", "visual.transformer.resblocks.0", 1),
        ("dit", "transformer_blocks.0", 0),
    ],
)
def test_tokens_before_the_images(name, block, tokens):
    assert prefix_tokens(build(name).network, block) == tokens


# AdaptFormer.


@pytest.mark.parametrize("options", [{}, {"init_values": 0.3}])
def test_adaptformer_reads_the_residual_stream(options):
    network = double_vit(depth=2, **options)
    tuner = AdaptFormer(rank=4, scale=0.1, dropout=0.1, lr=1e-2).attach(network, IMAGES)
    move(tuner)
    tuner.eval()
    result = network.forward_features(IMAGES)
    with tuner.enabled(False):
        x = network._pos_embed(network.patch_embed(IMAGES))
        for block, part in zip(network.blocks, tuner.bottlenecks, strict=True):
            x = x + block.ls1(block.attn(block.norm1(x)))
            x = x + block.ls2(block.mlp(block.norm2(x))) + 0.1 * part.up((part.down(x)).relu())
        expected = network.norm(x)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-12)


def test_adaptformer_start_and_dropout():
    network = double_vit()
    tuner = AdaptFormer(rank=4, scale=0.1, dropout=0.5, lr=1e-2).attach(network, IMAGES)
    part = tuner.bottlenecks[0]
    assert part.down.weight.abs().max() <= 1 / math.sqrt(32)
    assert not any(zero.any() for zero in (part.down.bias, part.up.weight, part.up.bias))
    move(tuner)
    assert not torch.equal(network(IMAGES), network(IMAGES))


def test_adaptformer_on_swin_goes_back_to_maps():
    options = {"depths": (2, 2), "num_heads": (2, 2), "window_size": 4, "num_classes": 0}
    network = timm.models.SwinTransformer(32, 4, embed_dim=8, **options)
    images = torch.randn(2, 3, 32, 32)
    tuner = AdaptFormer(rank=4, scale=0.1, dropout=0.0, lr=1e-2).attach(network, images)
    before = network(images)
    move(tuner)
    assert len(tuner.bottlenecks) == 4
    assert not torch.equal(network(images), before)


# SSF.


def test_ssf_places_on_a_vit():
    network = double_vit(depth=1)
    tuner = SSF(std=0.02, lr=1e-2).attach(network, IMAGES)
    assert list(tuner._layers) == [
        "patch_embed.proj",
        "blocks.0.norm1",
        "blocks.0.attn.qkv",
        "blocks.0.attn.proj",
        "blocks.0.norm2",
        "blocks.0.mlp.fc1",
        "blocks.0.mlp.fc2",
        "norm",
    ]
    first, second = tuner.layers[4], tuner.layers[5]
    x = torch.randn(2, 5, 32, dtype=torch.double)
    block = network.blocks[0]
    result = block.mlp.fc1(block.norm2(x))
    with tuner.enabled(False):
        inner = block.norm2(x) * first.gamma + first.beta
        torch.testing.assert_close(result, block.mlp.fc1(inner) * second.gamma + second.beta)


def test_ssf_start():
    torch.manual_seed(0)
    hook = ScaleShift(20_000, -1, 0.02, {})
    for parameter, mean in ((hook.gamma, 1.0), (hook.beta, 0.0)):
        assert abs(parameter.mean().item() - mean) < 1e-3
        assert abs(parameter.std().item() - 0.02) < 1e-3


# Side-tuning.


def test_sidetune_mixes_evenly_at_first():
    network = double_vit()
    tuner = SideTune(lr=1e-2).attach(network, IMAGES)
    mixed = network(IMAGES)
    with tuner.enabled(False):
        frozen = network(IMAGES)
    torch.testing.assert_close(mixed, (frozen + tuner.side.network(IMAGES)) / 2)
    with torch.no_grad():
        tuner.side.alpha.fill_(50)
    torch.testing.assert_close(network(IMAGES), frozen)


@pytest.mark.parametrize("name", ["bitfit", "vpt_deep", "prefix", "adaptformer", "ssf", "sidetune"])
def test_modules_take_the_precision_of_the_network(name):
    network = double_vit()
    tuner = MEMBERS[name]().attach(network, IMAGES)
    assert {parameter.dtype for parameter in tuner.trainable_parameters()} == {torch.double}


ANNOTATED = [
    ("prefix", Places, "on_output"),
    ("prefix", Keys, "on_output"),
    ("prefix", Values, "on_output"),
    ("ssf", ScaleShift, "on_output"),
    ("sidetune", Side, "on_output"),
    ("adaptformer", Bottleneck, "branch"),
]


@pytest.mark.parametrize(("member", "owner", "method"), ANNOTATED)
def test_annotated_shapes_hold(member, owner, method, monkeypatch):
    checked, calls = jaxtyped(typechecker=beartype)(getattr(owner, method)), []

    def counted(*args):
        calls.append(args)
        return checked(*args)

    monkeypatch.setattr(owner, method, counted)
    network = double_vit()
    MEMBERS[member]().attach(network, IMAGES)
    network(IMAGES)
    assert calls
