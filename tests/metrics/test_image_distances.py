"""The metrics of generated images that are not torchmetrics' own, and how DVDP puts them together."""

import numpy as np
import pytest
import torch

from common.errors import UserError
from metrics.image_distances import ImageDistances
from metrics.spectrum import LogSpectrumError, radial_power
from networks.label_features import LabelFeatures, load_label_features


def test_power_is_that_of_a_wave():
    place = torch.arange(16) * 2 * torch.pi / 16
    wave = torch.cos(3 * place).expand(16, 16)[None, None]
    power = radial_power(wave)
    assert power.shape == (7,)
    assert power.argmax() == 2
    # All of its energy, 16 x 16 / 2, lies in two places of the ring of frequency 3.
    ring = torch.hypot(*torch.meshgrid(*[torch.fft.fftfreq(16, 1 / 16)] * 2, indexing="ij")).round() == 3
    assert power[2].item() == pytest.approx(128 / ring.sum().item())


def test_the_spectrum_error_is_the_log_ratio_and_keeps_the_real_images():
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(32, 2, 16, 16, generator=generator)
    metric = LogSpectrumError(16)
    metric.update(real[:20], real=True)
    metric.update(real[20:], real=True)
    metric.update(real, real=False)
    assert metric.compute().item() == pytest.approx(0, abs=1e-12)
    metric.reset()
    metric.update(3 * real[:16], real=False)
    metric.update(3 * real[16:], real=False)
    assert metric.compute().item() == pytest.approx(np.log(9))
    # As many images of a kind as there are count as one each.
    metric.reset()
    metric.update(real.repeat(3, 1, 1, 1), real=False)
    assert metric.compute().item() == pytest.approx(0, abs=1e-12)


def checkpoint(path, **changes):
    told = {"in_channels": 1, "label_sizes": [3, 2], "width": 16} | changes
    network = LabelFeatures(1, [3, 2], 16)
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save({"hyper_parameters": told, "state_dict": state | {"right.sum": torch.zeros(())}}, path)
    return network


def test_features_come_back_frozen(tmp_path):
    network = checkpoint(tmp_path / "one.ckpt")
    loaded = load_label_features(str(tmp_path / "one.ckpt"), 1)
    images = torch.randn(3, 1, 32, 32)
    assert torch.equal(network(images), loaded(images))
    assert loaded(images).shape == (3, 16)
    assert [part.shape for part in loaded.logits(images)] == [(3, 3), (3, 2)]
    assert not any(p.requires_grad for p in loaded.parameters())


def test_wrong_feature_weights_are_told(tmp_path):
    checkpoint(tmp_path / "one.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    for path, channels, told in (("one", 3, "images have 3"), ("other", 1, "no|not"), ("third", 1, "no file")):
        with pytest.raises(UserError, match=told):
            load_label_features(str(tmp_path / f"{path}.ckpt"), channels)


def test_a_width_that_cannot_be_grouped_is_refused():
    with pytest.raises(UserError, match="multiple of 16"):
        LabelFeatures(1, [3], 8)


def distances_of(channels, size, **changes):
    options = {"features": None, "inception": None, "kid_subset": 4}
    return ImageDistances(channels, size, 8, **(options | changes))


def test_the_frechet_distance_is_that_of_two_gaussians(tmp_path):
    network = checkpoint(tmp_path / "one.ckpt")
    distances = distances_of(1, 32, features=str(tmp_path / "one.ckpt"))
    real, fake = torch.randn(64, 1, 32, 32), 0.5 * torch.randn(64, 1, 32, 32) + 0.3
    distances.update(real, real=True)
    for _ in range(2):
        distances.update(fake, real=False)
        found = distances.compute()["fd"].item()
        a, b = (network(images).detach().double().numpy() for images in (real, fake))
        first, second = np.cov(a.T), np.cov(b.T)
        roots = np.sqrt(np.linalg.eigvals(first @ second).real.clip(0)).sum()
        expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * roots
        assert found == pytest.approx(expected, rel=1e-3)
        # A second set of images is compared with the same real ones.
        distances.forget_generated()


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    """A file of Inception's layout with random weights."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    place = tmp_path_factory.mktemp("inception") / "weights.pth"
    load, torch.load = torch.load, lambda *a, **k: {}
    keep = torch.nn.Module.load_state_dict
    torch.nn.Module.load_state_dict = lambda self, state, *a, **k: None
    try:
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(place))
    finally:
        torch.load, torch.nn.Module.load_state_dict = load, keep
    torch.manual_seed(0)
    state = network.state_dict()
    for name, value in state.items():
        if value.ndim > 1:
            torch.nn.init.kaiming_normal_(value)
        else:
            value.fill_(float(name.endswith(("weight", "var"))))
    torch.save(state, place)
    return str(place)


@pytest.mark.parametrize("channels", [1, 3])
def test_fid_and_kid_take_weights_by_path(inception, channels):
    distances = distances_of(channels, 16, inception=inception)
    distances.update(torch.rand(8, channels, 16, 16) * 2 - 1, real=True)
    distances.update(torch.rand(8, channels, 16, 16) * 2 - 1, real=False)
    found = distances.compute()
    assert found.keys() == {"psd_error", "fid", "kid", "kid_std"}
    assert all(torch.isfinite(value) for value in found.values())
    distances.forget_generated()
    distances.update(-torch.ones(8, channels, 16, 16), real=False)
    assert distances.compute()["fid"] > found["fid"]


def test_missing_inception_weights_and_too_few_samples_are_told(inception, tmp_path):
    with pytest.raises(UserError, match=r"evaluation\.inception: no file"):
        distances_of(3, 16, inception=str(tmp_path / "none.pth"))
    with pytest.raises(UserError, match=r"fewer than evaluation\.kid_subset"):
        distances_of(3, 16, inception=inception, kid_subset=100)
