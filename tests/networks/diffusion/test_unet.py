"""The unconditional U-Net and its local conditions."""

import pytest
import torch

from common.errors import UserError
from networks.diffusion.conditions import Conditions
from tests.networks.diffusion.build import OPTIONS, UNet, randn, unet_of

TIMES = torch.tensor([10, 700])


@pytest.mark.parametrize("stem", [1, 2])
def test_local_conditions_are_seen_and_absent_ones_are_zeros(stem):
    network, x = unet_of(local_channels=2, patch_size=stem), randn(2, 3, 8, 8)
    local = randn(2, 2, 8, 8, seed=1)
    with torch.no_grad():
        absent, zeros, given = (
            network(x, TIMES, conditions)
            for conditions in (None, Conditions(local=torch.zeros_like(local)), Conditions(local=local))
        )
    assert absent.shape == x.shape
    assert torch.equal(absent, zeros)
    assert not torch.allclose(absent, given)


def test_the_first_prediction_is_zero():
    assert not UNet(3, [8], OPTIONS)(randn(2, 3, 8, 8), TIMES).any()


@pytest.mark.parametrize(
    ("local", "conditions", "word"),
    [
        (0, Conditions(local=torch.zeros(2, 1, 8, 8)), "have 1 channels, the network takes 0"),
        (2, Conditions(local=torch.zeros(2, 1, 8, 8)), "have 1 channels, the network takes 2"),
        (0, Conditions(tokens=torch.zeros(2, 1, 8)), "local conditions only"),
        (0, Conditions(vector=torch.zeros(2, 1)), "local conditions only"),
    ],
)
def test_conditions_that_it_does_not_take_are_refused(local, conditions, word):
    with pytest.raises(UserError, match=word):
        unet_of(local)(randn(2, 3, 8, 8), TIMES, conditions)
