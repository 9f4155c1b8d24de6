"""Surfaces of generated scenes: where the density is, in the world's units."""

import numpy as np
import pytest
import torch

from common.errors import UserError
from networks.gan.generators3d.mesh import extract_mesh
from tests.geod.build import cameras


class Ball:
    """A generator of one ball of radius .3, half dense at its surface, whose color is its place."""

    box_warp = 1.2

    def field(self, z, camera, noise):
        return None

    def query(self, field, points):
        return 20.0 - 40 * (points.norm(dim=-1) > 0.3), (points / self.box_warp + 0.5).transpose(1, 2)


def test_a_ball_is_found_where_it_is():
    mesh = extract_mesh(Ball(), torch.zeros(1, 8), cameras(1), resolution=64)
    radius = np.linalg.norm(mesh.vertices, axis=1)
    assert radius == pytest.approx(np.full(len(radius), 0.3), abs=1.2 / 63)
    assert np.abs(mesh.vertices.mean(axis=0)).max() < 0.01
    expected = (mesh.vertices / 1.2 + 0.5) * 255
    assert np.abs(mesh.colors - expected).max() <= 1
    assert mesh.triangles.max() == len(mesh.vertices) - 1
    # A closed surface of genus 0: vertices less edges and triangles is 2.
    edges = np.sort(mesh.triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    assert len(mesh.vertices) - len(np.unique(edges, axis=0)) + len(mesh.triangles) == 2


def test_a_level_that_is_never_passed_is_told():
    with pytest.raises(UserError, match=r"density is .* to 19 and never passes 50"):
        extract_mesh(Ball(), torch.zeros(1, 8), cameras(1), resolution=16, level=50)
