"""Edits move the linked axes alone, in every layer's row, and both images of a pair have the same noise."""

import pytest
import torch

from common.errors import UserError
from lightning_modules.linkgan.editing import compared, edit_latents, render_edit
from lightning_modules.linkgan.sampling import LinkSamples
from networks.gan.stylegan2.noise import draw_noise
from networks.noise import BatchNoise
from tests.linkgan.tiny_generator import AXES, OPTIONS, SplitGenerator, TinyGenerator

EYES = AXES["eyes"]


def samples(generator=None, **options):
    network = generator or TinyGenerator()
    return LinkSamples(network, AXES, OPTIONS | options, image_shape=(3, 16), device=torch.device("cpu"))


def images(**options):
    return torch.cat(list(samples(**options).images()))


def test_an_edit_moves_the_axes_of_the_link_in_every_row_and_no_other():
    ws, other = torch.randn(4, 6, 8), torch.randn(4, 6, 8)
    replaced = edit_latents(ws, other, EYES)
    assert torch.equal(replaced[..., :3], other[..., :3])
    assert torch.equal(replaced[..., 3:], ws[..., 3:])
    half = edit_latents(ws, other, EYES, "interpolate", 0.5)
    assert torch.allclose(half[..., :3], (ws + other)[..., :3] / 2)
    assert torch.equal(edit_latents(ws, other, EYES, "interpolate", 0.0), ws)
    assert torch.allclose(edit_latents(ws, other, EYES, "interpolate", 1.0), replaced)
    direction = torch.randn(4, 1, 8)
    moved = edit_latents(ws, direction, EYES, "perturb", 2.0) - ws
    assert torch.allclose(moved[..., :3], 2 * direction[..., :3].expand(-1, 6, -1), atol=1e-6)
    assert not moved[..., 3:].any()


def test_both_images_have_the_same_noise():
    generator, ws = TinyGenerator(), torch.randn(2, 6, 8)
    for noise in ("const", "none", draw_noise(generator.noise_sides, 2, BatchNoise(0, 0))):
        assert torch.equal(render_edit(generator, ws, ws, noise).difference, torch.full((2, 3, 16, 16), -1.0))
    with pytest.raises(ValueError, match="share"):
        render_edit(generator, ws, ws, "random")


def test_the_difference_is_black_where_nothing_changed():
    one, other = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    other[..., 0, 0], one[..., 1, 1], other[..., 1, 1] = 0.5, -3, 3
    found = compared(one, other)
    assert found.difference[0, 0].tolist() == [[-0.5, -1.0], [-1.0, 1.0]]
    assert found.side_by_side().shape == (1, 3, 2, 6)


def test_resampling_a_link_changes_its_region_alone_and_outside_the_rest():
    for outside in (False, True):
        sheet = images(generator=SplitGenerator(), resample="eyes", outside=outside)
        original, edit, difference = sheet.split(16, dim=3)
        changed = (edit - original).abs().amax(dim=(0, 1, 2)) > 1e-4
        assert changed[:8].all().item() is not outside
        assert changed[8:].all().item() is outside
        assert torch.allclose(difference, (edit - original).abs() - 1)


def test_a_sample_depends_on_seed_and_index_alone():
    for options in ({}, {"resample": "eyes"}, {"resample": "mouth", "edit": "perturb", "amount": 0.5}):
        many, few = images(count=20, **options), images(count=3, **options)
        assert len(many) == 20
        assert torch.allclose(many[:3], few, atol=1e-5)
        assert not torch.allclose(images(count=3, seed=1, **options), few, atol=1e-2)


def test_originals_are_the_plain_samples_and_interpolation_is_between():
    plain = images(truncation=0.7).clamp(-1, 1)
    for edit in ("replace", "interpolate", "perturb"):
        original, changed, _ = images(truncation=0.7, resample="eyes", edit=edit, amount=0.3).split(16, dim=3)
        assert torch.allclose(original, plain, atol=1e-5)
        assert not torch.allclose(changed, original, atol=1e-3)
    changes = [
        (images(resample="eyes", edit="interpolate", amount=amount).split(16, dim=3)[2] + 1).mean()
        for amount in (0.0, 0.3, 1.0)
    ]
    assert changes[0] == 0 < changes[1] < changes[2]


def test_truncation_moves_both_latents_of_an_edit():
    original, changed, difference = images(truncation=0.0, resample="eyes").split(16, dim=3)
    assert torch.equal(difference, torch.full_like(difference, -1))
    assert torch.allclose(original, original[:1].expand_as(original), atol=1e-5)
    assert torch.equal(original, changed)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"resample": "eyse"}, r"sample\.resample: no link 'eyse' - did you mean eyes\?"),
        ({"resample": "tail"}, "known: eyes, mouth"),
        ({"truncation": 70.0}, r"sample\.truncation: is 70\.0, should be from 0"),
        ({"outside": True}, r"sample\.resample=NAME"),
        ({"resample": "eyes", "edit": "interpolate", "amount": 1.5}, r"sample\.amount: is 1\.5"),
        ({"invert": "a.png", "latent": "b.safetensors"}, "give one"),
    ],
)
def test_bad_options_are_one_line(options, told):
    with pytest.raises(UserError, match=told):
        samples(**options)
    with pytest.raises(UserError, match="this model has none"):
        LinkSamples(
            TinyGenerator(), {}, OPTIONS | {"resample": "eyes"}, image_shape=(3, 16), device=torch.device("cpu")
        )
