"""Cameras and normals: one convention on both sides of the guidance."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from common.errors import UserError
from networks.cameras import (
    PoseOptions,
    back_project,
    draw_cameras,
    focal_in_pixels,
    focal_length,
    label_cameras,
    normals_of_depth,
    normals_of_points,
    orbit_cameras,
    rotation,
    split_camera,
    turned_cameras,
)
from networks.gan.generators3d.volume_rendering import cast_rays
from tests.geod.build import bump

POSES = PoseOptions(kind="gaussian", yaw=0.3, pitch=0.15, radius=2.775, fov=18.837)


def test_the_field_of_view_is_between_the_outermost_pixel_centres():
    focal = focal_length(32, 18.837)
    assert math.degrees(2 * math.atan(15.5 / focal)) == pytest.approx(18.837)
    points = back_project(torch.full((1, 32, 32), 2.0), focal)
    assert points[0, 0, 0].tolist() == pytest.approx([-points[0, -1, -1, 0].item(), -points[0, -1, -1, 1].item(), 2.0])


def test_a_facing_plane_has_one_normal_and_ray_lengths_do_not_give_it():
    flat = torch.zeros(1, 32, 32, 3)
    flat[..., 2] = 1
    focal = focal_length(32, 18.837)
    assert torch.allclose(normals_of_depth(torch.full((1, 32, 32), 2.7), focal), flat, atol=1e-4)
    camera = orbit_cameras(torch.zeros(1), torch.zeros(1), POSES, 32)
    lengths = 2.7 / cast_rays(camera, 32).cosines.reshape(1, 32, 32)
    assert (normals_of_depth(lengths, focal) - flat).abs().max() > 0.05


def test_a_tilted_plane_has_its_normal_and_the_border_faces_the_camera():
    focal = focal_length(32, 18.837)
    normal = torch.tensor([0.3, -0.2, 1.0])
    rays = back_project(torch.ones(1, 32, 32), focal)
    depth = 2.7 / (rays * normal).sum(dim=-1)
    found = normals_of_depth(depth, focal)
    assert torch.allclose(found[0, 1:-1, 1:-1], (normal / normal.norm()).expand(30, 30, 3), atol=1e-4)
    for border in (found[0, 0], found[0, -1], found[0, :, 0], found[0, :, -1]):
        assert torch.equal(border, torch.tensor([0.0, 0.0, 1.0]).expand(32, 3))


def test_normals_point_away_from_the_camera_on_the_sides_of_a_bump():
    normals = normals_of_depth(bump(), focal_length(32, 18.837))[0]
    # Right of the tip the surface falls back: x to the left in this convention, where a facing plane has +z.
    assert normals[16, 22, 0] < -0.3
    assert normals[16, 9, 0] > 0.3
    assert normals[22, 16, 1] < -0.3


def test_points_and_depth_give_the_same_normals():
    depth, focal = bump(), focal_length(32, 18.837)
    assert torch.equal(normals_of_depth(depth, focal), normals_of_points(back_project(depth, focal)))
    both = normals_of_depth(depth.expand(2, -1, -1), torch.tensor([focal, focal]))
    assert torch.allclose(both[1], normals_of_depth(depth, focal)[0])


def test_rotations_are_about_x_then_y_then_z():
    angles = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    expected = torch.from_numpy(Rotation.from_euler("xyz", angles.double().numpy()).as_matrix()).float()
    assert torch.allclose(rotation(angles), expected, atol=1e-5)


def test_turned_cameras_turn_the_object_of_a_label():
    from tests.datamodules.miniature_eg3d import camera as label_of

    labels = torch.tensor(np.array([label_of(np.random.default_rng(k)) for k in range(20)]), dtype=torch.float32)
    turns = torch.tensor([[0.0, 0.0], [0.3, 0.1]])
    front, turned = turned_cameras(turns, POSES, 32, labels)
    assert (labels - front).abs().sum(dim=1).min() < 1e-5
    to_camera = [split_camera(one[None])[0][0, :3, :3].T for one in (front, turned)]
    expected = rotation(torch.tensor([[0.1, 0.3, 0.0]]))[0]
    assert torch.allclose(to_camera[1] @ to_camera[0].T, expected, atol=1e-5)
    # As far from the origin, which stays where it is in the image, and with the same lens.
    assert turned[[3, 7, 11]].norm().item() == pytest.approx(front[[3, 7, 11]].norm().item(), abs=1e-5)
    assert torch.equal(turned[16:], front[16:])
    ours = turned_cameras(turns, POSES, 32)
    assert torch.allclose(ours, orbit_cameras(turns[:, 0], turns[:, 1], POSES, 32))


def test_cameras_look_at_the_origin_from_their_radius():
    camera = orbit_cameras(torch.tensor([0.4, -0.2]), torch.tensor([0.1, 0.3]), POSES, 32)
    to_world, intrinsics = split_camera(camera)
    center = to_world[:, :3, :3].transpose(1, 2) @ -to_world[:, :3, 3:]
    assert torch.allclose(center[..., 0], torch.tensor([0.0, 0.0, 2.775]).expand(2, 3), atol=1e-5)
    assert torch.allclose(focal_in_pixels(camera, 32), torch.full((2,), focal_length(32, 18.837)))
    assert intrinsics[0, 2].tolist() == [0, 0, 1]


@pytest.mark.parametrize("kind", ["gaussian", "uniform", "labels"])
def test_drawn_cameras_depend_on_the_generator_alone(kind):
    options = POSES | {"kind": kind}
    labels = orbit_cameras(torch.linspace(-1, 1, 9), torch.zeros(9), POSES, 32)
    draw = [draw_cameras(500, options, 32, torch.Generator().manual_seed(3), labels) for _ in range(2)]
    assert torch.equal(*draw)
    yaw = torch.asin(-split_camera(draw[0])[0][:, 0, 2])
    widths = {"gaussian": 0.3, "uniform": 0.3 / 3**0.5, "labels": labels[:, 2].asin().std()}
    assert yaw.std().item() == pytest.approx(float(widths[kind]), rel=0.12)
    if kind == "labels":
        assert {tuple(row) for row in draw[0].tolist()} == {tuple(row) for row in labels.tolist()}


def test_label_cameras_are_spread_over_the_data():
    labels = orbit_cameras(torch.linspace(-1, 1, 9), torch.zeros(9), POSES, 32)

    class Source:
        cameras = labels.numpy()

        def __len__(self):
            return 9

    assert torch.equal(label_cameras(Source(), 3), labels[[0, 4, 8]])
    with pytest.raises(UserError, match="the data have no cameras"):
        label_cameras([1, 2], 2)
