"""The metrics of generated images that are not torchmetrics' own, and how DVDP puts them together."""

import numpy as np
import pytest
import torch
from torch import nn

from common.errors import UserError
from metrics.image_distances import ImageDistances
from metrics.spectrum import LogSpectrumError, radial_power
from networks.label_features import LabelFeatures


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


def distances_of(channels, size, **changes):
    options = {"features": None, "inception": None, "kid_subset": 4}
    return ImageDistances(channels, size, 8, **(options | changes))


def test_the_frechet_distance_is_that_of_two_gaussians():
    network = LabelFeatures(1, [3, 2], 16).eval().requires_grad_(False)
    distances = distances_of(1, 32, features=network)
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


class Means(nn.Module):
    """Stands in for Inception: means of the rows of images, which are bytes in three channels."""

    num_features = 16

    def forward(self, images):
        assert images.dtype == torch.uint8
        assert images.shape[1:] == (3, 16, 16)
        return images.float().mean(dim=(1, 3))


@pytest.mark.parametrize("channels", [1, 3])
def test_fid_and_kid_are_of_a_given_network(channels):
    distances = distances_of(channels, 16, inception=Means())
    distances.update(torch.rand(8, channels, 16, 16) * 2 - 1, real=True)
    distances.update(torch.rand(8, channels, 16, 16) * 2 - 1, real=False)
    found = distances.compute()
    assert found.keys() == {"psd_error", "fid", "kid", "kid_std"}
    assert all(torch.isfinite(value) for value in found.values())
    distances.forget_generated()
    distances.update(-torch.ones(8, channels, 16, 16), real=False)
    assert distances.compute()["fid"] > found["fid"]


def test_too_few_samples_are_told():
    with pytest.raises(UserError, match=r"fewer than evaluation\.kid_subset"):
        distances_of(3, 16, inception=Means(), kid_subset=100)
