"""The embedded baselines under what training brings: recomputed blocks, autocast, half precision, compilation."""

import copy

import open_clip
import pytest
import torch

from tests.tuners.members import MEMBERS, move
from tests.tuners.u_backbones import CLIP, build, vit

IMAGES = torch.linspace(-3, 3, 2 * 3 * 16 * 16).view(2, 3, 16, 16).sin()
INSERTED = ["vpt_shallow", "vpt_deep", "prefix", "lora", "ssf", "adaptformer", "bitfit"]


def gradients_of(network, tuner):
    tuner.zero_grad()
    network.zero_grad()
    network(IMAGES).square().sum().backward()
    return [parameter.grad.clone() for parameter in tuner.trainable_parameters()]


CHECKPOINTED = [("timm", member) for member in INSERTED]
CHECKPOINTED += [("open_clip", member) for member in INSERTED if member not in ("prefix", "ssf")]


@pytest.mark.parametrize(("family", "member"), CHECKPOINTED)
def test_gradient_checkpointing(family, member):
    torch.manual_seed(0)
    network = vit() if family == "timm" else open_clip.CLIP(**CLIP).visual
    tuner = MEMBERS[member]().attach(network, IMAGES).eval()
    move(tuner)
    plain = gradients_of(network, tuner)
    network.set_grad_checkpointing(True)
    for one, other in zip(gradients_of(network, tuner), plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    # What was kept between hooks is gone, so that the model can be copied.
    copy.deepcopy((network, tuner))


@pytest.mark.parametrize("member", MEMBERS)
def test_autocast(member):
    torch.manual_seed(0)
    network = vit(num_classes=0)
    tuner = MEMBERS[member]().attach(network, IMAGES).eval()
    move(tuner)
    exact = network(IMAGES)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(IMAGES)
    assert (rough.float() - exact).abs().max() < 0.1 * exact.abs().max()
    if member != "linear":
        rough.float().sum().backward()
        assert all(parameter.grad.dtype == torch.float32 for parameter in tuner.trainable_parameters())


@pytest.mark.parametrize("member", [name for name in MEMBERS if name not in ("full", "linear")])
def test_bfloat16_weights(member):
    torch.manual_seed(0)
    network = vit(num_classes=0).bfloat16()
    tuner = MEMBERS[member]().attach(network, IMAGES.bfloat16()).eval()
    output = network(IMAGES.bfloat16())
    assert output.dtype == torch.bfloat16
    output.float().square().sum().backward()
    assert all(parameter.grad is not None for parameter in tuner.trainable_parameters())
    separate = set(tuner.parameters())
    assert all(parameter.dtype == torch.float32 for parameter in separate)


@pytest.mark.parametrize("member", ["vpt_shallow", "vpt_deep", "prefix", "ssf", "adaptformer", "sidetune", "lora"])
def test_compiled(member):
    torch.manual_seed(0)
    network = vit(num_classes=0)
    tuner = MEMBERS[member]().attach(network, IMAGES).eval()
    move(tuner)
    expected = network(IMAGES)
    torch._dynamo.reset()
    compiled = torch.compile(network, backend="aot_eager")
    torch.testing.assert_close(compiled(IMAGES), expected)
    compiled(IMAGES).sum().backward()
    assert all(parameter.grad is not None for parameter in tuner.trainable_parameters())


@pytest.mark.parametrize("member", [name for name in MEMBERS if name not in ("linear", "sidetune")])
def test_text_tower_is_left_alone(member):
    """Every trained tensor gets a gradient from the images (§2.8)."""
    case = build("open_clip_timm")
    tuner = MEMBERS[member]().attach(case.network, *case.args)
    case.run().square().sum().backward()
    assert all(parameter.grad is not None for parameter in tuner.trainable_parameters())
    assert all(name.startswith("visual.") for name in tuner.trained_in_backbone())
