"""Views carried over to another camera."""

import torch

from networks.reprojection import reproject, resize_depth
from tests.geod.build import bump, cameras, world


def test_depth_is_resized_to_what_is_read():
    depth = bump(64)
    assert resize_depth(depth, 32).shape == (1, 32, 32)
    assert resize_depth(depth, 64) is depth


def test_a_view_is_carried_over_by_true_depth_and_hidden_pixels_are_left_out():
    found = world(4, 7)
    depth, camera = torch.from_numpy(found.depth), torch.from_numpy(found.camera)
    image = torch.from_numpy(found.images).float()
    same, mask = reproject(image, depth, camera, depth, camera, 1.25)
    assert mask[:, 2:-2, 2:-2].min() == 1
    assert torch.allclose(same[:, :, 2:-2, 2:-2], image[:, :, 2:-2, 2:-2], atol=0.5)


def test_what_another_surface_hides_is_left_out():
    # From the side a wall in front hides part of what this view sees.
    depth, other = torch.full((1, 32, 32), 3.0), torch.full((1, 32, 32), 3.0)
    other[:, :, :16] = 2.0
    camera = cameras(1)
    mask = reproject(torch.zeros(1, 3, 32, 32), depth, camera, other, camera, 1.25)[1]
    assert mask[:, 2:-2, 2:14].max() == 0
    assert mask[:, 2:-2, 18:-2].min() == 1
