"""The parallel forms against the embedded ones (§2.3), in double precision."""

import pytest
import timm
import torch
from beartype import beartype
from diffusers.models.attention_processor import Attention as DiffusersAttention
from jaxtyping import jaxtyped
from torch import nn
from torch.nn import functional

from common.errors import UserError
from tests.tuners.u_backbones import build, spec, vit
from tuners.attention import view
from tuners.prefix import Prefix
from tuners.u_tuning import UTuning

DIM, HEADS, LENGTH, TOKENS = 12, 3, 4, 7


@pytest.fixture(autouse=True)
def _seed():
    # Of weights that are drawn anew each time, some attend to the tuner's rows too little to tell.
    torch.manual_seed(0)


class Around(nn.Module):
    """An attention alone, called as its library calls it."""

    def __init__(self, attn: nn.Module) -> None:
        super().__init__()
        self.attn = attn

    def forward(self, *args, **kwargs):
        out = self.attn(*args, **kwargs)
        return out[0] if isinstance(out, tuple) else out


def tuned(attn, kind, args, kwargs):
    """Attach an exact branch with rows far from zero; return network and branch."""
    network = Around(attn).double().eval()
    for parameter in network.parameters():
        parameter.data.normal_()
    branch = spec(op="mha", tuner=kind, dim=LENGTH, query="frozen", gate="exact")
    tuner = UTuning(lr=1.0, specs=[branch])
    tuner.attach(network, *args, patterns={"mha": "attn"}, **kwargs)
    for parameter in tuner.parameters():
        parameter.data.normal_()
    return network, tuner, tuner.sites["attn"].branches[0]


def softmax_attention(queries, keys, values, scale, mask=None):
    logits = torch.einsum("bhnd,bhmd->bhnm", queries, keys) * scale
    return torch.einsum("bhnm,bhmd->bhnd", (logits if mask is None else logits + mask).softmax(-1), values)


def with_rows(x, rows):
    """Concatenate rows [l, d], as heads, after x [b, h, n, dh]."""
    rows = rows.view(LENGTH, HEADS, -1).transpose(0, 1).expand(len(x), -1, -1, -1)
    return torch.cat((x, rows), dim=2)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def same_and_different(network, tuner, embedded, args, kwargs):
    close(network(*args, **kwargs), embedded)
    with tuner.enabled(False):
        assert (network(*args, **kwargs) - embedded).abs().max() > 0.1


TIMM = [
    {"qkv_bias": False},
    {"qkv_bias": True},
    {"qkv_bias": True, "qk_norm": True, "norm_layer": nn.LayerNorm},
    {"qkv_bias": True, "gated": True, "proj_bias": False},
    {"attn_head_dim": 2, "dim_out": DIM, "qkv_bias": True},
]


def tokens(*shape):
    return torch.randn(shape, dtype=torch.float64)


@pytest.mark.parametrize("options", TIMM)
@pytest.mark.parametrize("is_fused", [True, False])
def test_timm_prefix(options, is_fused):
    attn, x = timm.layers.Attention(DIM, HEADS, **options), tokens(2, TOKENS, DIM)
    attn.fused_attn = is_fused
    network, tuner, branch = tuned(attn, "prefix", (x,), {})
    q, k, v = attn.qkv(x).view(2, TOKENS, 3, HEADS, attn.head_dim).permute(2, 0, 3, 1, 4)
    q, k = attn.q_norm(q), attn.k_norm(k)
    out = softmax_attention(q, with_rows(k, branch.keys), with_rows(v, branch.values), attn.head_dim**-0.5)
    out = out.transpose(1, 2).flatten(2)
    out = out * attn.gate(x).sigmoid() if attn.gate is not None else out
    same_and_different(network, tuner, attn.proj(out), (x,), {})


@pytest.mark.parametrize("options", TIMM)
def test_timm_prompt(options):
    attn, x = timm.layers.Attention(DIM, HEADS, **options), tokens(2, TOKENS, DIM)
    network, tuner, branch = tuned(attn, "prompt", (x,), {})
    longer = torch.cat((x, branch.tokens.expand(2, -1, -1)), dim=1)
    same_and_different(network, tuner, attn.forward(longer)[:, :TOKENS], (x,), {})


def padded(mask, value):
    """Let every token see the prompt; what the prompt's own rows see does not matter."""
    return functional.pad(mask, (0, LENGTH, 0, LENGTH), value=value)


@pytest.mark.parametrize("kind", ["causal", "bool", "added"])
def test_timm_prompt_with_mask(kind):
    attn, x = timm.layers.Attention(DIM, HEADS, qkv_bias=True), tokens(2, TOKENS, DIM)
    keep = torch.ones(TOKENS, TOKENS).tril().bool()
    added = tokens(TOKENS, TOKENS)
    kwargs = {"causal": {"is_causal": True}, "bool": {"attn_mask": keep}, "added": {"attn_mask": added}}[kind]
    mask = padded(added, 0.0) if kind == "added" else padded(keep, True)
    network, tuner, branch = tuned(attn, "prompt", (x,), kwargs)
    longer = torch.cat((x, branch.tokens.expand(2, -1, -1)), dim=1)
    same_and_different(network, tuner, attn.forward(longer, attn_mask=mask)[:, :TOKENS], (x,), kwargs)


TORCH = [
    {"batch_first": True},
    {"batch_first": False},
    {"batch_first": True, "bias": False},
    {"batch_first": True, "kdim": 8, "vdim": 8},
    {"batch_first": False, "kdim": 8, "vdim": 8},
]


def torch_call(options):
    """Query, key and value, batch first or second; self-attention unless the context has channels of its own."""
    query = tokens(2, TOKENS, DIM)
    context = tokens(2, 5, 8) if "kdim" in options else query
    order = (lambda x: x) if options["batch_first"] else (lambda x: x.transpose(0, 1))
    return order(query), order(context), order(context)


def appended(x, rows, batch_first):
    axis = 1 if batch_first else 0
    return torch.cat((x, rows.unsqueeze(1 - axis).expand(*(2, -1, -1) if batch_first else (-1, 2, -1))), dim=axis)


@pytest.mark.parametrize("options", TORCH)
def test_torch_prompt(options):
    attn, (query, key, value) = nn.MultiheadAttention(DIM, HEADS, **options), torch_call(options)
    network, tuner, branch = tuned(attn, "prompt", (query, key, value), {"need_weights": False})
    longer = [appended(x, branch.tokens, options["batch_first"]) for x in (key, value)]
    same_and_different(network, tuner, attn.forward(query, *longer)[0], (query, key, value), {"need_weights": False})


@pytest.mark.parametrize("options", TORCH)
def test_torch_prefix(options):
    """The library's own bias_k and bias_v are a prefix of length one."""
    attn, args = nn.MultiheadAttention(DIM, HEADS, **options), torch_call(options)
    network, tuner, branch = tuned(attn, "prefix", args, {})
    branch.keys.data, branch.values.data = branch.keys.data[:1], branch.values.data[:1]
    attn.bias_k, attn.bias_v = branch.keys.data[None], branch.values.data[None]
    embedded = attn.forward(*args)[0]
    attn.bias_k = attn.bias_v = None
    same_and_different(network, tuner, embedded, args, {})


def test_torch_prompt_with_masks():
    attn, x = nn.MultiheadAttention(DIM, HEADS, batch_first=True), tokens(2, TOKENS, DIM)
    mask, padding = torch.ones(TOKENS, TOKENS).triu(1).bool(), torch.zeros(2, TOKENS).bool()
    padding[1, -2:] = True
    for masks in ({"attn_mask": mask}, {"attn_mask": tokens(2 * HEADS, TOKENS, TOKENS)}, {"key_padding_mask": padding}):
        network, tuner, branch = tuned(attn, "prompt", (x, x, x), masks)
        longer = appended(x, branch.tokens, True)
        wider = {name: functional.pad(value, (0, LENGTH)) for name, value in masks.items()}
        same_and_different(network, tuner, attn.forward(x, longer, longer, **wider)[0], (x, x, x), masks)
        tuner.detach()


def test_torch_cross_attention_is_like_self_attention_of_its_parts():
    attn, x = nn.MultiheadAttention(DIM, HEADS, batch_first=True).double(), tokens(2, TOKENS, DIM)
    own = view(attn, (x, x, x))
    assert torch.equal(own.keys_and_values()[0], own.keys_and_values_of(x)[0])


DIFFUSERS = [
    {"bias": True},
    {"cross_attention_dim": 8},
    {"qk_norm": "layer_norm"},
    {"qk_norm": "rms_norm", "rescale_output_factor": 2.0, "residual_connection": True},
]


@pytest.mark.parametrize("options", DIFFUSERS)
@pytest.mark.parametrize("has_mask", [True, False])
def test_diffusers_prompt(options, has_mask):
    attn, x = DiffusersAttention(DIM, heads=HEADS, dim_head=4, **options), tokens(2, TOKENS, DIM)
    kwargs = {"encoder_hidden_states": tokens(2, 5, 8)} if "cross_attention_dim" in options else {}
    context = kwargs.get("encoder_hidden_states", x)
    if has_mask:
        kwargs["attention_mask"] = tokens(2, 1, context.shape[1])
    network, tuner, branch = tuned(attn, "prompt", (x,), kwargs)
    longer = torch.cat((context, branch.tokens.expand(2, -1, -1)), dim=1)
    wider = {"attention_mask": functional.pad(kwargs["attention_mask"], (0, LENGTH))} if has_mask else {}
    same_and_different(network, tuner, attn.forward(x, longer, **wider), (x,), kwargs)


@pytest.mark.parametrize("shape", [(2, DIM, 3, 2), (2, TOKENS, DIM)])
def test_diffusers_prefix(shape):
    """The prefix is put into what to_k and to_v return, before the library splits it into heads."""
    options = {"norm_num_groups": 3, "residual_connection": True, "rescale_output_factor": 1.5, "bias": True}
    attn, x = DiffusersAttention(DIM, heads=HEADS, dim_head=4, **options), tokens(*shape)
    network, tuner, branch = tuned(attn, "prefix", (x,), {})
    handles = [
        layer.register_forward_hook(lambda _, __, out, rows=rows: torch.cat((out, rows.expand(2, -1, -1)), dim=1))
        for layer, rows in ((attn.to_k, branch.keys), (attn.to_v, branch.values))
    ]
    embedded = attn.forward(x)
    for handle in handles:
        handle.remove()
    same_and_different(network, tuner, embedded, (x,), {})


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_whole_network_equals_embedded_prefix_tuning(dtype):
    torch.manual_seed(0)
    network, image = vit(qk_norm=True, qkv_bias=True).to(dtype), torch.randn(2, 3, 16, 16, dtype=dtype)
    embedded = Prefix(lr=1.0, length=LENGTH)
    embedded.attach(network, image)
    state = embedded.state_dict()
    for value in state.values():
        value.normal_()
    expected = network(image)
    embedded.detach()
    parallel = UTuning(lr=1.0, specs=[spec(op="mha", tuner="prefix", dim=LENGTH, query="frozen", gate="exact")])
    parallel.attach(network, image)
    named = dict(parallel.named_parameters())
    assert len(named) == len(state) == 4
    for key, value in state.items():
        block, name = key.split(".")[1], "keys" if "keys" in key else "values"
        named[f"sites.blocks/{block}/attn.branches.0.{name}"].data = value.view(LENGTH, -1).clone()
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(network(image), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["timm_vit", "open_clip_vit", "unet_condition", "unet", "dit", "torch_encoder"])
@pytest.mark.parametrize("gate", ["exact", "constant", "learned"])
def test_frozen_queries_in_whole_networks(name, gate):
    case = build(name)
    before = case.run()
    branches = [spec(op="mha", tuner=kind, query="frozen", gate=gate) for kind in ("prefix", "prompt")]
    tuner = UTuning(lr=1.0, specs=branches).attach(case.network, *case.args, **case.kwargs)
    after = case.run()
    (after * torch.randn_like(after)).sum().backward()
    assert not torch.allclose(after, before)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in tuner.parameters())
    assert all(p.grad is None for p in case.network.parameters())


def test_constant_gate_is_the_branch_through_the_output_projection():
    attn, x = timm.layers.Attention(DIM, HEADS, qkv_bias=True).double(), tokens(2, TOKENS, DIM)
    network = Around(attn).eval()
    branch = spec(op="mha", tuner="prefix", dim=LENGTH, query="frozen", scale=0.5)
    tuner = UTuning(lr=1.0, specs=[branch])
    before = network(x)
    tuner.attach(network, x, patterns={"mha": "attn"})
    rows = tuner.sites["attn"].branches[0]
    q = attn.qkv(x)[..., :DIM].unflatten(-1, (HEADS, -1)).transpose(1, 2)
    empty = q[:, :, :0]
    mixed = softmax_attention(q, with_rows(empty, rows.keys), with_rows(empty, rows.values), (DIM // HEADS) ** -0.5)
    close(network(x), before + 0.5 * mixed.transpose(1, 2).flatten(2) @ attn.proj.weight.T)


def test_bfloat16_attention_has_finite_exact_gate():
    attn, x = timm.layers.Attention(DIM, HEADS, qkv_bias=True), torch.randn(2, TOKENS, DIM)
    network = Around(attn).to(torch.bfloat16).eval()
    tuner = UTuning(lr=1.0, specs=[spec(op="mha", tuner="prefix", query="frozen", gate="exact")])
    tuner.attach(network, x.bfloat16(), patterns={"mha": "attn"})
    assert {p.dtype for p in tuner.parameters()} == {torch.float32}
    assert network(x.bfloat16()).dtype == torch.bfloat16


UNKNOWN = [
    (timm.layers.Attention(DIM, HEADS, scale_norm=True, norm_layer=nn.LayerNorm), "scale_norm"),
    (timm.layers.AttentionRope(DIM, HEADS), "AttentionRope"),
    (nn.MultiheadAttention(DIM, HEADS, add_bias_kv=True), "add_bias_kv"),
    (nn.MultiheadAttention(DIM, HEADS, add_zero_attn=True), "add_zero_attn"),
    (nn.MultiheadAttention(DIM, HEADS, kdim=4, vdim=8), "kdim, vdim"),
    (DiffusersAttention(DIM, heads=HEADS, dim_head=4, kv_heads=1), "grouped keys"),
    (DiffusersAttention(DIM, heads=HEADS, dim_head=4, scale_qk=False), "AttnProcessor"),
]


@pytest.mark.parametrize(("attn", "word"), UNKNOWN)
def test_unknown_attention_is_refused(attn, word):
    with pytest.raises(UserError, match="query: free works on any attention") as refusal:
        view(attn)
    assert word in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("method", ["queries", "keys_and_values"])
def test_annotated_shapes_hold(method):
    known = view(timm.layers.Attention(DIM, HEADS, qkv_bias=True), (torch.randn(2, TOKENS, DIM),))
    jaxtyped(typechecker=beartype)(getattr(type(known), method))(known)
