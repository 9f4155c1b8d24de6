"""Errors of predicted geometry, next to the mean shape and a flat face."""

import numpy as np
import pytest
import torch

from lightning_modules.geod.evaluation.depth_metrics import eroded, mad
from lightning_modules.geod.evaluation.prediction_errors import PredictionErrors, mean_depth
from networks.cameras import focal_length, normals_of_depth
from tests.geod.build import shape_of, world


def test_predictions_are_measured_next_to_the_mean_shape_and_a_flat_face():
    found = world(64, 2)
    batch = {name: torch.from_numpy(getattr(found, name)) for name in ("depth", "camera", "mask")}
    errors = PredictionErrors(batch["depth"].mean(dim=0))
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
