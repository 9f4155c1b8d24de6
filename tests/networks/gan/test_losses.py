"""The losses of a GAN against their definitions."""

import math

import pytest
import torch

from networks.gan.losses import density_variation, discriminator_loss, generator_loss, r1_penalty
from networks.noise import BatchNoise
from tests.networks.gan.generators3d.test_interface import generator_of, z_of
from tests.networks.gan.generators3d.test_volume_rendering import camera


def test_the_losses_are_softplus_of_signed_logits():
    real, generated = torch.tensor([2.0, -1.0]), torch.tensor([0.0, 1.0, 3.0])
    expected = sum(math.log1p(math.exp(-x)) for x in (0, 1, 3)) / 3
    assert generator_loss(generated).item() == pytest.approx(expected)
    expected = sum(math.log1p(math.exp(x)) for x in (0, 1, 3)) / 3 + sum(math.log1p(math.exp(-x)) for x in (2, -1)) / 2
    assert discriminator_loss(real, generated).item() == pytest.approx(expected)


def test_r1_is_the_squared_gradient_of_real_images():
    image = torch.randn(5, 3, 4, 4).requires_grad_()
    weight = torch.randn(3, 4, 4)
    logits = (image * weight).sum(dim=(1, 2, 3)) + 0.5 * image.square().sum(dim=(1, 2, 3))
    expected = (weight + image).square().sum(dim=(1, 2, 3)).mean()
    assert r1_penalty(logits, image).item() == pytest.approx(expected.item(), rel=1e-5)


def test_density_that_is_everywhere_the_same_does_not_vary():
    generator = generator_of("triplane")
    assert density_variation(generator, z_of(2), camera(count=2), BatchNoise(0, 0)) > 0
    torch.nn.init.zeros_(generator.decoder.net[2].weight)
    assert density_variation(generator, z_of(2), camera(count=2), BatchNoise(0, 0)) == 0
