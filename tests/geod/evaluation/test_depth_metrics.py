"""MAD, SIDE and eroded masks against hand-computed values."""

import math

import pytest
import torch

from lightning_modules.geod.evaluation.depth_metrics import angles, eroded, mad, side
from tests.geod.build import bump


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
