import pytest
import safetensors.torch
import timm
import torch
from torch.nn import functional

from common.errors import UserError
from lightning_modules.neural_dependency.networks import build_network, load_network

TIMM = ["test_resnet", "test_vit", "test_convnext", "resnetv2_50x1_bit"]


@pytest.mark.parametrize("name", ["small", "mlp"])
def test_features_and_head_make_the_logits(name):
    network = build_network(name, 128, 3, 16).eval()
    images = torch.randn(4, 3, 16, 16)
    features = network.forward_features(images)
    assert features.shape == (4, 256)
    assert (features >= 0).all()
    made = functional.linear(features, network.head.weight, network.head.bias)
    assert torch.allclose(network(images), made)
    assert network(images).shape == (4, 128)


def test_the_networks_have_the_sizes_of_the_page():
    small, mlp = build_network("small", 128, 3, 16), build_network("mlp", 128, 3, 16)
    assert [m.out_channels for m in small.modules() if isinstance(m, torch.nn.Conv2d)] == [16, 32, 64]
    linear = [(m.in_features, m.out_features) for m in mlp.modules() if isinstance(m, torch.nn.Linear)]
    assert linear == [(768, 512), (512, 256), (256, 128)]


def test_every_parameter_gets_a_gradient():
    for name in ("small", "mlp"):
        network = build_network(name, 5, 3, 16)
        network(torch.randn(8, 3, 16, 16)).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize("name", TIMM)
def test_a_timm_model_with_its_weights_gives_its_own_logits(tmp_path, name):
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=7).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(model.state_dict(), path)
    network = build_network(name, 7, 3, 64).eval()
    load_network(network, {"name": name, "weights": str(path)})
    images = torch.randn(2, 3, *model.pretrained_cfg["input_size"][1:])
    with torch.no_grad():
        assert torch.allclose(network(images), model(images), atol=1e-5)
        assert network(images).std() > 0


@pytest.mark.parametrize("prefix", ["network.", ""])
@pytest.mark.parametrize("by_folder", [True, False])
def test_a_checkpoint_of_ours_by_file_or_by_folder(tmp_path, prefix, by_folder):
    first = build_network("small", 9, 3, 16)
    tensors = {f"{prefix}{key}": value for key, value in first.state_dict().items()}
    (tmp_path / "checkpoints").mkdir()
    file = tmp_path / "checkpoints" / "best.ckpt"
    torch.save({"state_dict": tensors | {"means.val/acc.mean_value": torch.zeros(())}}, file)
    other = build_network("small", 9, 3, 16)
    load_network(other, {"name": "small", "weights": str(tmp_path if by_folder else file)})
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in first.state_dict().items())


def test_a_checkpoint_of_uosr_is_read(tmp_path):
    from lightning_modules.uosr.network import Network

    theirs = Network({"name": "small", "weights": None, "zero_head": False}, 6, 3, 16).eval()
    torch.save({"state_dict": {f"network.{k}": v for k, v in theirs.state_dict().items()}}, tmp_path / "a.ckpt")
    ours = build_network("small", 6, 3, 16).eval()
    load_network(ours, {"name": "small", "weights": str(tmp_path / "a.ckpt")})
    images = torch.randn(3, 3, 16, 16)
    assert torch.equal(theirs(images).logits, ours(images))


def test_no_weights_change_nothing_and_reach_for_nothing(monkeypatch):
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("nothing is asked of timm"))
    network = build_network("small", 4, 3, 16)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    load_network(network, {"name": "small", "weights": None})
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in before.items())


def test_logits_are_float32_under_autocast():
    network = build_network("small", 4, 3, 16).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        images = torch.randn(2, 3, 16, 16)
        assert network(images).dtype == network.forward_features(images).dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "weights", "said"),
    [
        ("small", "none.ckpt", "no file none.ckpt"),
        ("small", "hub", "nobody publishes weights of small"),
        ("test_vit", "hub", "its logits are 1000, not 4"),
    ],
)
def test_missing_weights_are_one_line(name, weights, said):
    with pytest.raises(UserError, match=said) as error:
        load_network(build_network(name, 4, 3, 16), {"name": name, "weights": weights})
    assert "\n" not in str(error.value)


def test_weights_of_another_network_are_one_line(tmp_path):
    torch.save({"state_dict": build_network("mlp", 4, 3, 16).state_dict()}, tmp_path / "mlp.ckpt")
    with pytest.raises(UserError, match="does not fit network small") as error:
        load_network(build_network("small", 4, 3, 16), {"name": "small", "weights": str(tmp_path / "mlp.ckpt")})
    assert "\n" not in str(error.value)


def test_names_that_are_none_are_told():
    with pytest.raises(UserError, match="there is no network 'resnot'"):
        build_network("resnot", 4, 3, 16)
    with pytest.raises(UserError, match="multiple of 8"):
        build_network("small", 4, 3, 12)
    with pytest.raises(UserError, match="not one linear layer"):
        build_network("deit_tiny_distilled_patch16_224", 4, 3, 224)
