"""Figures of samples and predictions."""

from lightning_modules.geod.evaluation.figures import color_of_normals
from networks.cameras import focal_length, normals_of_depth
from tests.geod.build import bump


def test_normals_are_coloured_as_they_point_out_of_the_surface():
    colors = color_of_normals(normals_of_depth(bump(height=0.8), focal_length(32, 18.837)))[0]
    assert colors[2, 16, 16] > 0.7
    assert colors[0, 16, 24] > 0.2 > -0.2 > colors[0, 16, 8]
    assert colors[1, 24, 16] > 0.2 > -0.2 > colors[1, 8, 16]
