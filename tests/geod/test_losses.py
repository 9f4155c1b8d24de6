"""What the inverse renderer learns from, and the errors that readings and generators are measured by."""

import math

import numpy as np
import pytest
import torch
from torchvision.models import vgg16

from common.errors import UserError
from lightning_modules.geod.depth_metrics import angles, eroded, mad, side
from lightning_modules.geod.geometry import focal_length, normals_of_depth
from lightning_modules.geod.inverse_loss import (
    PerceptualFeatures,
    build_features,
    feature_loss,
    inverse_loss,
    photometric_loss,
    roughness,
)
from lightning_modules.geod.reading_errors import ReadingErrors, mean_depth
from tests.geod.build import bump, images, plain, renderer_of, world
from tests.geod.test_guidance import shape_of

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
    reading = renderer_of()(images(2))
    mask = reading.shape.valid[:, None]
    own, mirrored = (
        photometric_loss(found, reading.image, mask, reading.pixel_deviation[:, [place]])
        for place, found in enumerate(reading.reconstruction.chunk(2))
    )
    found = inverse_loss(reading, OPTIONS | {"smoothness": 0.0})
    assert found.item() == pytest.approx((own + 0.5 * mirrored).item(), abs=1e-5)
    rough = roughness(reading.shape.canonical[:2])
    smoothed = inverse_loss(reading, OPTIONS | {"smoothness": 2.0})
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


def test_angles_and_their_mean():
    one = torch.tensor([0.0, 0.0, 1.0]).expand(1, 2, 2, 3)
    other = torch.tensor([0.0, math.sin(0.5), math.cos(0.5)]).expand(1, 2, 2, 3).clone()
    other[0, 1, 1] = torch.tensor([0.0, 0.0, -1.0])
    assert angles(one, other)[0, 0, 0].item() == pytest.approx(math.degrees(0.5), abs=1e-3)
    assert angles(one, one).max() == 0
    mask = torch.tensor([[[1.0, 1.0], [0.0, 1.0]]])
    assert mad(one, other, mask).item() == pytest.approx((2 * math.degrees(0.5) + 180) / 3, abs=1e-3)


def test_the_depth_error_does_not_know_scale():
    truth = bump()
    ones = torch.ones_like(truth)
    assert side(1.3 * truth, truth, ones).item() == pytest.approx(0, abs=0.05)
    depth = truth.clone()
    depth[:, :16] *= math.exp(0.02)
    # Half the logarithms are off by .02: a deviation of .01.
    assert side(depth, truth, ones).item() == pytest.approx(1, abs=0.02)
    depth[:, :, 20:] = 99
    mask = ones.clone()
    mask[:, :, 20:] = 0
    assert side(depth, truth, mask).item() == pytest.approx(1, abs=0.02)


def test_masks_are_eroded_by_a_pixel():
    mask = torch.zeros(1, 7, 7)
    mask[:, 1:6, 1:6] = 1
    assert eroded(mask).nonzero().amin(0).tolist()[1:] == [2, 2]
    assert eroded(mask).sum() == 9


def test_a_reading_is_measured_beside_the_mean_shape_and_a_flat_face():
    found = world(64, 2)
    batch = {name: torch.from_numpy(getattr(found, name)) for name in ("depth", "camera", "mask")}
    errors = ReadingErrors(batch["depth"].mean(dim=0))
    errors.update(batch, shape_of(batch["depth"]))
    values = {name: float(value) for name, value in errors.compute().items()}
    assert values["ir_mad"] < 0.01
    assert values["ir_side"] < 0.01
    assert values["flat_mad"] > values["mean_shape_mad"] > 20
    normals = normals_of_depth(batch["depth"], focal_length(32, 18.837))
    flat = torch.tensor([0.0, 0, 1]).expand_as(normals)
    expected = mad(normals, flat, eroded(batch["mask"].float())).mean()
    assert values["flat_mad"] == pytest.approx(expected.item(), abs=0.05)
    errors.update(batch, None)
    assert "ir_mad" not in errors.compute()


def test_the_mean_depth_is_that_of_the_training_images():
    assert mean_depth([{"depth": np.full((2, 2), k, np.float32)} for k in (1, 3)]).tolist() == [[2, 2], [2, 2]]
    assert mean_depth([{"image": 0}]) is None
