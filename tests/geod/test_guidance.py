"""The guidance of the generator: masks, schedule, both paths of the gradient, and the control."""

from pathlib import Path

import pytest
import torch

from lightning_modules.geod.guidance import gamma, guidance_loss, guidance_of_rendering, masked_difference
from networks.cameras import normals_of_depth
from networks.gan.generators3d.volume_rendering import Rendering
from tests.geod.build import FOCAL, bump, cameras, images, module_of, plain, shape_of

SCHEDULE = {"gamma_start": 0.0, "gamma_end": 0.1, "start_kimg": 20, "end_kimg": 60, "stop_kimg": 2000}


def test_the_weight_is_nothing_in_the_warm_up_and_rises_along_a_line():
    weights = [gamma(SCHEDULE, n * 1000) for n in (0, 10, 19, 20, 30, 40, 60, 1999, 2000, 5000)]
    assert weights == pytest.approx([0, 0, 0, 0, 0.025, 0.05, 0.1, 0.1, 0, 0])
    assert gamma(SCHEDULE | {"stop_kimg": None}, 10**9) == 0.1
    assert gamma(SCHEDULE | {"start_kimg": 0, "end_kimg": 0}, 0) == 0.1


def test_masks_count_pixels_and_hide_the_rest():
    # Nine tenths masked, and what is masked is wild.
    one, other = torch.zeros(1, 10, 10, 3), torch.full((1, 10, 10, 3), 100.0)
    other[0, 0] = torch.tensor([0.1, -0.2, 0.4])
    mask = torch.zeros(1, 10, 10)
    mask[0, 0] = 1
    assert masked_difference(one, other, mask).item() == pytest.approx(0.7)
    assert masked_difference(one, other, torch.zeros(1, 10, 10)) == 0


def test_pixels_that_are_not_valid_do_not_count():
    read, rendered = bump(), bump(height=0.3)
    valid = torch.ones(1, 32, 32)
    valid[:, :, :16] = 0
    half = guidance_loss(rendered, torch.tensor([FOCAL]), shape_of(read, valid))
    wild = shape_of(read, valid)._replace(normals=torch.where(valid[..., None] > 0, shape_of(read).normals, 7.0))
    assert guidance_loss(rendered, torch.tensor([FOCAL]), wild) == half > 0
    # The bump is the same on both sides.
    assert half.item() == pytest.approx(guidance_loss(rendered, torch.tensor([FOCAL]), shape_of(read)).item(), rel=0.1)


def test_pixels_without_rendered_normals_do_not_count():
    # Points that lie in one place have none. The border's are (0, 0, 1) on both sides.
    nowhere = torch.zeros(1, 32, 32)
    assert (normals_of_depth(nowhere, FOCAL)[:, 1:-1, 1:-1] == 0).all()
    assert guidance_loss(nowhere, torch.tensor([FOCAL]), shape_of(bump())) == 0


def test_empty_rays_are_left_out_on_request():
    read, rendered, weight = bump(), bump(height=0.3), torch.ones(1, 32, 32)
    weight[:, :, :16] = 0.2
    focal, shape = torch.tensor([FOCAL]), shape_of(read)
    half = torch.ones(1, 32, 32)
    half[:, :, :16] = 0
    found = guidance_loss(rendered, focal, shape, weight=weight, min_opacity=0.5)
    assert found == guidance_loss(rendered, focal, shape_of(read, half))
    assert guidance_loss(rendered, focal, shape, weight=weight) == guidance_loss(rendered, focal, shape)


def test_the_control_is_guided_by_another_sample():
    depth = torch.cat([bump(height=height) for height in (0.2, 0.4, 0.6)])
    focal = torch.full((3,), FOCAL)
    assert guidance_loss(depth, focal, shape_of(depth)) == 0
    rolled = shape_of(depth.roll(1, 0))
    assert guidance_loss(depth, focal, shape_of(depth), shuffle=True) == guidance_loss(depth, focal, rolled) > 0.05


def test_depth_is_compared_but_for_its_mean():
    depth, focal = torch.cat([bump(), bump(height=0.2)]), torch.full((2,), FOCAL)
    offset = depth + torch.tensor([0.3, -0.1])[:, None, None]
    assert guidance_loss(offset, focal, shape_of(depth), kind="depth").item() == pytest.approx(0, abs=1e-6)
    assert guidance_loss(depth.roll(1, 0), focal, shape_of(depth), kind="depth") > 0.01
    # The first half is the image's own.
    leaning = depth + torch.linspace(0, 0.3, 32)
    assert guidance_loss(leaning, focal, shape_of(leaning), kind="depth") == 0


def test_the_gradient_takes_both_paths_unless_one_is_cut():
    found = {}
    for detach in (False, True):
        module = module_of(guidance={"gamma_end": 1.0, "detach_image": detach})
        depth = bump(height=0.3).repeat(2, 1, 1).requires_grad_()
        image = images(2).requires_grad_()
        weight = torch.ones(2, 32, 32)
        rendering, options = Rendering(image, depth, weight, image), module.options["guidance"]
        guidance_of_rendering(module.networks.predictor, rendering, cameras(2), options).backward()
        found[detach] = (depth.grad, image.grad)
    assert found[False][0].abs().sum() > 0
    assert found[False][1].abs().sum() > 0
    assert torch.equal(found[True][0], found[False][0])
    assert found[True][1] is None


def test_both_paths_are_open_unless_a_config_says_otherwise():
    files = [path for path in Path("conf").rglob("geod*.yaml") if "detach_image: true" in path.read_text()]
    assert files == []
    assert plain("geod")["guidance"]["detach_image"] is False


def test_geometry_is_predicted_from_the_final_image():
    # Not from the one before super-resolution.
    module, inputs = module_of(guidance={"gamma_end": 1.0}), []
    predictor = module.networks.predictor
    own = predictor.predict_shape
    predictor.predict_shape = lambda image: inputs.append(image) or own(image)
    depth, image = bump().repeat(2, 1, 1), images(2)
    rendering = Rendering(image, depth, torch.ones_like(depth), torch.zeros_like(image))
    guidance_of_rendering(predictor, rendering, cameras(2), module.options["guidance"])
    assert torch.equal(inputs[0], image)


def test_a_hollow_face_costs_at_least_five_times_a_shallow_one():
    # With one sign wrong this turns round.
    focal = torch.tensor([FOCAL])
    truth = bump()
    shallow, hollow = 3.0 - 0.85 * (3.0 - truth), 6.0 - truth
    read = shape_of(truth)
    right = guidance_loss(truth, focal, read)
    assert right < 1e-4
    assert guidance_loss(hollow, focal, read) > 5 * guidance_loss(shallow, focal, read)
