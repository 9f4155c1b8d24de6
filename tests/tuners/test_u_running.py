"""U-Tuning under what training puts around a network."""

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tests.tuners.u_backbones import build, output_of, spec, vit
from tuners.u_tuning import UTuning

IMAGE = torch.randn(2, 3, 16, 16)
FROZEN = {"op": "mha", "tuner": "prefix", "query": "frozen"}
SPECS = [spec(**FROZEN, gate="exact"), spec(op="ffn"), spec(op="block", tuner="prompt"), spec(op="block")]


class Model(nn.Module):
    """A network, its tuner and a head, as a paper's module holds them."""

    def __init__(self) -> None:
        super().__init__()
        self.network = vit()
        self.tuner = UTuning(lr=1.0, specs=SPECS).attach(self.network, IMAGE)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.network(x))


def gradients(model, image=IMAGE):
    model.zero_grad()
    (model(image).float() * torch.linspace(-1, 1, 6).view(2, 3)).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def model():
    torch.manual_seed(0)
    return Model()


def same(a, b, **tolerance):
    assert a.keys() == b.keys()
    assert len(a) > len(SPECS)
    for name in a:
        torch.testing.assert_close(a[name], b[name], **tolerance)


def test_gradient_checkpointing():
    plain, saving = model(), model()
    saving.network.set_grad_checkpointing(True)
    same(gradients(saving.train()), gradients(plain.train()))


def test_gradient_checkpointing_of_open_clip():
    found = []
    for saves in (False, True):
        case = build("open_clip_vit")
        case.network.set_grad_checkpointing(saves)
        torch.manual_seed(0)
        tuner = UTuning(lr=1.0, specs=SPECS).attach(case.network, *case.args)
        case.network.train()
        (case.run() * torch.linspace(-1, 1, 32).view(2, 16)).sum().backward()
        found.append({name: p.grad for name, p in tuner.named_parameters()})
    same(*found)


def test_autocast():
    tuned = model()
    exact = gradients(tuned)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert tuned(IMAGE).dtype == torch.bfloat16
        rough = gradients(tuned)
    assert {g.dtype for g in rough.values()} == {torch.float32}
    for name, gradient in exact.items():
        assert torch.nn.functional.cosine_similarity(gradient.flatten(), rough[name].flatten(), dim=0) > 0.9, name


@pytest.mark.parametrize("name", ["timm_vit", "timm_convnext", "unet_condition"])
def test_bfloat16_weights(name):
    case = build(name)
    network = case.network.bfloat16()
    args = tuple(x.bfloat16() for x in case.args)
    kwargs = {k: v.bfloat16() if k == "encoder_hidden_states" else v for k, v in case.kwargs.items()}
    kinds = [spec(op="ffn", tuner=kind) for kind in ("adapter", "prefix", "prompt")]
    tuner = UTuning(lr=1.0, specs=[*kinds, spec()]).attach(network, *args, **kwargs)
    assert {p.dtype for p in tuner.parameters()} == {torch.float32}
    output = network(*args, **kwargs)
    output = output.sample if hasattr(output, "sample") else output
    assert output.dtype == torch.bfloat16
    output.float().square().sum().backward()
    assert all(p.grad is not None for p in tuner.parameters())


def test_compiled():
    tuned = model()
    expected = gradients(tuned)
    compiled = torch.compile(tuned, backend="aot_eager")
    found = {name.removeprefix("_orig_mod."): g for name, g in gradients(compiled).items()}
    same(found, expected)
    with tuned.tuner.enabled(False):
        torch.testing.assert_close(compiled(IMAGE), tuned(IMAGE))


class Images(nn.Module):
    """The image features of a CLIP model."""

    def __init__(self, network: nn.Module, tuner: nn.Module) -> None:
        super().__init__()
        self.network, self.tuner = network, tuner

    def forward(self, image):
        return output_of(self.network, image)


def test_distributed_without_unused_parameters(tmp_path):
    """Also with a text tower that the images do not pass."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        case = build("open_clip_vit")
        tuner = UTuning(lr=1.0, specs=SPECS).attach(case.network, *case.args)
        parallel = DistributedDataParallel(Images(case.network, tuner), find_unused_parameters=False)
        for _ in range(3):
            parallel(*case.args).square().sum().backward()
        assert all(p.grad is not None for p in tuner.parameters())
    finally:
        torch.distributed.destroy_process_group()


def test_frozen_statistics_do_not_move():
    case = build("timm_resnet")
    tuner = UTuning(lr=1.0, specs=[spec()]).attach(case.network, *case.args)
    whole = nn.ModuleList([case.network, tuner]).train()
    assert not any(module.training for module in case.network.modules())
    assert whole[1].training
    before = {name: value.clone() for name, value in case.network.named_buffers()}
    case.run().sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in case.network.named_buffers())


def test_state_goes_to_another_copy():
    first, second = model(), model()
    with torch.no_grad():
        for parameter in first.tuner.parameters():
            parameter.normal_()
    second.head = first.head
    assert not torch.allclose(first(IMAGE), second(IMAGE))
    second.tuner.load_tuner_state_dict(first.tuner.tuner_state_dict())
    assert torch.equal(first(IMAGE), second(IMAGE))
