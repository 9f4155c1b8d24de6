"""Projection finds a picture of the generator again; its latent is kept, belongs to one generator, and is edited."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import vgg16

from common.errors import UserError
from lightning_modules.linkgan.inversion import (
    PROJECTOR,
    learning_rate,
    noise_regularization,
    pixel_distance,
    project,
    w_statistics,
)
from lightning_modules.linkgan.latent_files import read_picture
from lightning_modules.linkgan.sampling import LATENT_FILE, LinkSamples, projection_distance
from networks.label_features import LabelFeatures
from networks.perceptual import PerceptualDistance
from tests.linkgan.tiny_generator import AXES, OPTIONS, TinyGenerator

CPU = torch.device("cpu")


def target(generator, seed=5):
    w = generator.to_w(torch.randn(1, 8, generator=torch.Generator().manual_seed(seed)))
    return generator.synthesis(generator.latents(w), "const")


def samples(generator, test_picture=None, **options):
    known = {"image_shape": (3, 16), "device": CPU, "test_picture": test_picture}
    return LinkSamples(generator, AXES, OPTIONS | options, **known)


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "face.png"
    pixels = ((target(TinyGenerator())[0].clamp(-1, 1) + 1) * 127.5).round().byte()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path)
    return path


@pytest.fixture(scope="module")
def inverted(picture):
    found = samples(TinyGenerator(), invert=str(picture), resample="eyes", steps=150)
    return torch.cat(list(found.images())), found.files()


@pytest.mark.parametrize("space", ["w", "w+"])
def test_a_picture_of_the_generator_is_found_again(space):
    generator = TinyGenerator()
    picture = target(generator)
    options = PROJECTOR | {"space": space, "steps": 200, "samples": 512}
    start = generator.synthesis(generator.latents(w_statistics(generator, 512, CPU).average[:, 0]), "none")
    found = project(generator, picture, pixel_distance, options)
    assert found.distance < 0.25 * pixel_distance(start, picture).item()
    rows = found.ws[0]
    assert rows.shape == (6, 8)
    # One latent for all layers in W, one for each in W+.
    assert torch.equal(rows, rows[:1].expand_as(rows)) is (space == "w")
    for noise in found.noise:
        assert abs(noise.mean()) < 1e-5
        assert noise.square().mean() == pytest.approx(1, abs=1e-4)
    again = project(generator, picture, pixel_distance, options)
    assert torch.equal(again.ws, found.ws)
    assert all(value.grad is None for value in generator.parameters())


def test_the_learning_rate_is_that_of_the_projector():
    rates = [learning_rate(PROJECTOR, step) for step in range(1000)]
    assert rates[0] == 0
    assert rates[25] == pytest.approx(0.05)
    assert rates[50:750] == pytest.approx([0.1] * 700)
    assert rates[875] == pytest.approx(0.05)
    assert rates[999] < 1e-4
    assert all(a >= b for a, b in itertools.pairwise(rates[750:]))


def test_noise_maps_are_kept_from_showing_a_picture():
    smooth = torch.linspace(-1, 1, 16)[None, None, None].expand(1, 1, 16, 16)
    white = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert noise_regularization([smooth]) > 20 * noise_regularization([white])
    # By hand: constant maps are their shifted selves at 16 and at 8 pixels, along both axes.
    assert noise_regularization([torch.full((1, 1, 16, 16), 2.0)]) == pytest.approx(4 * 16)


def test_an_inverted_picture_is_compared_then_edited_and_its_latent_kept(inverted, picture):
    sheet, files = inverted
    assert len(sheet) == OPTIONS["count"]
    assert list(files) == [LATENT_FILE]
    given, found, difference = sheet[0].split(16, dim=2)
    assert torch.allclose(given, read_picture(str(picture), 3, 16)[0])
    assert torch.allclose(difference, (found - given).abs() - 1)
    originals, edits, _ = sheet[1:].split(16, dim=3)
    assert torch.allclose(originals, found[None].expand_as(originals), atol=1e-5)
    assert (edits - originals).abs().amax(dim=(1, 2, 3)).min() > 1e-3


def test_a_kept_latent_gives_the_same_edits_without_optimization(inverted, tmp_path):
    path = tmp_path / LATENT_FILE
    path.write_bytes(inverted[1][LATENT_FILE])
    again = samples(TinyGenerator(), latent=str(path), resample="eyes", steps=1)
    assert torch.allclose(torch.cat(list(again.images()))[:4], inverted[0][1:], atol=1e-5)
    assert again.files() == {}
    (alone,) = list(samples(TinyGenerator(), latent=str(path)).images())
    assert torch.allclose(alone.clamp(-1, 1)[0], inverted[0][0].split(16, dim=2)[1], atol=1e-5)


def test_a_picture_of_the_test_split_is_projected():
    kept = torch.linspace(-1, 1, 768).reshape(3, 16, 16)
    asked = []
    found = samples(TinyGenerator(), lambda k: asked.append(k) or kept, invert="test:3", steps=2)
    (sheet,) = list(found.images())
    assert asked == [3]
    assert torch.equal(sheet[0, :, :, :16], kept)
    for name, read in (("test:x", lambda _: kept), ("test:0", None)):
        with pytest.raises(UserError, match="should be a picture's file, or test:0"):
            list(samples(TinyGenerator(), read, invert=name).images())


def test_bad_files_are_one_line(inverted, picture, tmp_path):
    latent, other = tmp_path / LATENT_FILE, tmp_path / "other.pt"
    latent.write_bytes(inverted[1][LATENT_FILE])
    torch.save({"ws": torch.ones(1)}, other)
    (tmp_path / "broken.png").write_bytes(picture.read_bytes()[:60])
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(latent.read_bytes()[:-40])
    cases = [
        ({"latent": str(latent)}, 1, "belongs to another generator"),
        ({"latent": str(other)}, 0, r"is not a latent that sample\.invert has written"),
        ({"latent": str(cut)}, 0, "is damaged or cut off"),
        ({"latent": str(tmp_path / "none")}, 0, r"sample\.latent: no file"),
        ({"invert": str(tmp_path / "broken.png")}, 0, r"broken\.png is not a whole picture"),
        ({"invert": str(tmp_path / "none.png")}, 0, r"no file .*none\.png; give a picture, or test:0"),
        ({"invert": str(picture), "vgg": str(other)}, 0, "is not torchvision's VGG16"),
    ]
    for options, seed, told in cases:
        with pytest.raises(UserError, match=told):
            list(samples(TinyGenerator(seed), **options).images())


def test_pictures_of_any_form_are_cropped_to_the_middle(tmp_path):
    pixels = np.zeros((30, 60, 3), np.uint8)
    pixels[:, 15:45] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    Image.new("L", (5, 5), 255).save(tmp_path / "gray.png")
    assert torch.equal(read_picture(str(tmp_path / "wide.png"), 3, 16), torch.ones(1, 3, 16, 16))
    assert torch.equal(read_picture(str(tmp_path / "gray.png"), 3, 16), torch.ones(1, 3, 16, 16))
    assert read_picture(str(tmp_path / "wide.png"), 1, 8).shape == (1, 1, 8, 8)


def test_what_is_minimized(tmp_path):
    torch.manual_seed(0)
    one, other = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    torch.save(vgg16(weights=None).state_dict(), tmp_path / "vgg16.pth")
    features = LabelFeatures(3, [2], 16)
    distances = [
        projection_distance(None, None, 16, CPU),
        projection_distance(features, None, 16, CPU),
        projection_distance(features, str(tmp_path / "vgg16.pth"), 16, CPU),
    ]
    values = [distance(one, other) for distance in distances]
    assert all(value.shape == (2,) for value in values)
    assert all(not distance(one, one).any() for distance in distances)
    assert (values[1] > values[0]).all()
    perceptual = PerceptualDistance(str(tmp_path / "vgg16.pth"), "key")
    assert torch.allclose(values[2] - values[0], perceptual(one, other))
    # Four layers, in each a squared distance of vectors of length one.
    assert 0 < perceptual(one, other).max() <= 16
    # Larger images are compared at 256 pixels.
    large = torch.rand(1, 3, 512, 512)
    small = torch.nn.functional.avg_pool2d(large, 2)
    assert perceptual(large, small.repeat_interleave(2, 2).repeat_interleave(2, 3)).item() < 1e-6
    with pytest.raises(UserError, match="images have 8 pixels, VGG16 needs 16"):
        projection_distance(None, "any", 8, CPU)
