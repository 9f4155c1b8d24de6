"""Errors of generated geometry."""

import pytest
import torch

from lightning_modules.geod.evaluation.geometry_errors import GeometryErrors, Group, draw_groups
from lightning_modules.geod.evaluation.oracle import NormalOracle, NormalPrediction
from networks.cameras import focal_length, normals_of_depth
from networks.gan.generators3d.volume_rendering import Rendering
from tests.geod.build import bump, cameras, images, module_of


def oracle_of_truth(depths):
    class Truth(NormalOracle):
        def predict(self, image):
            return NormalPrediction(normals_of_depth(depths, focal_length(32, 18.837)), torch.ones(len(depths), 32, 32))

    return Truth(8)


def test_specificity_is_nothing_for_one_shape_and_much_for_the_right_ones():
    depths = torch.cat([bump(height=height, width=width) for height in (0.2, 0.6) for width in (0.3, 0.6)])
    image, weight, camera = images(4), torch.ones(4, 32, 32), cameras(4)

    def errors(depth):
        metric = GeometryErrors(oracle_of_truth(depths), 1.25)
        rendering = Rendering(image, depth, weight, image)
        metric.update(Group(rendering, camera, rendering, camera))
        return {name: float(value) for name, value in metric.compute().items()}

    right, mean = errors(depths), errors(depths.mean(dim=0, keepdim=True).expand(4, -1, -1))
    assert right["oracle_mad"] < 0.01
    assert right["specificity"] > 5
    # The oracle here sees objects everywhere, so there are no outlines.
    assert right["specificity_inside"] == pytest.approx(right["specificity"], abs=1e-3)
    assert mean["specificity"] == pytest.approx(0, abs=1e-4)
    assert mean["oracle_mad"] > 3
    wrong = errors(depths.roll(1, 0))
    assert wrong["specificity"] < 0
    assert mean["specificity_inside"] == pytest.approx(0, abs=1e-4)
    # Where rays pass through there is no surface to be judged.
    hollow = GeometryErrors(oracle_of_truth(depths), 1.25)
    rendering = Rendering(image, depths, 0 * weight, image)
    hollow.update(Group(rendering, camera, rendering, camera))
    assert not hollow.metrics["oracle_mad"].update_called


def test_groups_depend_on_their_seed_alone():
    module = module_of()
    pair = torch.stack([cameras(1)[0], cameras(1, yaw=0.2)[0]])
    first, second = draw_groups(module.networks.generator.eval(), pair.expand(2, 2, 25), 3, [4, 5])
    (again,) = draw_groups(module.networks.generator.eval(), pair[None], 3, [5])
    assert torch.equal(second.rendering.image, again.rendering.image)
    assert not torch.equal(first.rendering.image, second.rendering.image)
    assert torch.equal(first.camera[0], first.camera[2])
