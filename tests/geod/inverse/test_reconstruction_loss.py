"""The loss of the inverse renderer."""

import math

import pytest
import torch
from torchvision.models import vgg16

from common.errors import UserError
from lightning_modules.geod.inverse.reconstruction_loss import (
    PerceptualFeatures,
    build_features,
    feature_loss,
    inverse_loss,
    photometric_loss,
    roughness,
)
from tests.geod.build import images, plain, renderer_of

OPTIONS = plain("geod_ir")["inverse_loss"]


def test_the_photometric_loss_is_a_laplace_likelihood_over_the_mask():
    one, other = torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.5)
    deviation = torch.full((1, 1, 2, 2), 0.25)
    mask = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    other[..., 1, 1] = 1e6
    expected = math.sqrt(2) * 0.5 / 0.25 + math.log(0.25)
    assert photometric_loss(one, other, mask, deviation).item() == pytest.approx(expected, abs=1e-5)
    assert photometric_loss(one, other, 0 * mask, deviation) == 0


def test_the_feature_loss_is_a_gaussian_likelihood_over_the_coarse_mask():
    one, other = torch.zeros(1, 5, 2, 2), torch.full((1, 5, 2, 2), 0.5)
    mask = torch.ones(1, 1, 8, 8)
    mask[..., 4:] = 0
    mask[..., 4:, :2] = 0
    other[..., 1] = 1e3
    deviation = torch.full((1, 1, 2, 2), 0.5)
    expected = 0.25 / 0.5 + math.log(0.5)
    assert feature_loss(one, other, mask, deviation).item() == pytest.approx(expected, abs=1e-5)


def test_the_mirrored_hypothesis_has_half_the_weight():
    prediction = renderer_of()(images(2))
    mask = prediction.shape.valid[:, None]
    own, mirrored = (
        photometric_loss(found, prediction.image, mask, prediction.pixel_deviation[:, [place]])
        for place, found in enumerate(prediction.reconstruction.chunk(2))
    )
    found = inverse_loss(prediction, OPTIONS | {"smoothness": 0.0})
    assert found.item() == pytest.approx((own + 0.5 * mirrored).item(), abs=1e-5)
    rough = roughness(prediction.shape.canonical[:2])
    smoothed = inverse_loss(prediction, OPTIONS | {"smoothness": 2.0})
    assert smoothed.item() == pytest.approx((found + 2 * rough).item(), abs=1e-4)


def test_planes_are_not_rough():
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    assert roughness((0.3 * x - 0.1 * y)[None]) < 1e-6
    # Second differences of x^2: 2 in one direction, none in the other.
    assert roughness((x * x)[None]).item() == pytest.approx(2)


def test_perceptual_features_are_vggs_third_block(tmp_path):
    torch.manual_seed(3)
    network = vgg16(weights=None)
    torch.save(network.state_dict(), tmp_path / "vgg16.pth")
    options = OPTIONS | {"perceptual": "vgg16", "vgg_weights": str(tmp_path / "vgg16.pth")}
    features = PerceptualFeatures(options)
    image = images(2)
    mean, deviation = (torch.tensor(x)[:, None, None] for x in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    expected = network.features[:16](((image + 1) / 2 - mean) / deviation)
    assert torch.allclose(features(image), expected, atol=1e-5)
    assert features(image).shape == (2, 256, 8, 8)
    assert not any(p.requires_grad for p in features.parameters())
    loss = inverse_loss(renderer_of()(image), options, features)
    assert loss != inverse_loss(renderer_of()(image), options)


def test_random_features_are_always_the_same_and_missing_weights_are_told():
    options = OPTIONS | {"perceptual": "random"}
    torch.manual_seed(5)
    before = torch.rand(1)
    torch.manual_seed(5)
    first = build_features(options)
    assert torch.equal(torch.rand(1), before)
    assert torch.equal(first.layers[0].weight, build_features(options).layers[0].weight)
    assert build_features(OPTIONS) is None
    with pytest.raises(UserError, match=r"vgg_weights: no file none\.pth; expected torchvision's"):
        build_features(OPTIONS | {"perceptual": "vgg16", "vgg_weights": "none.pth"})
