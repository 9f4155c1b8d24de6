"""The moving average that forgets by images."""

import pytest
import torch
from torch import nn

from networks.ema import HalfLifeAverage


class Net(nn.Module):
    def __init__(self, value=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.full((2,), value))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))


def average_after(updates, **options):
    """Return the weight of an average that starts at 0, after updates with weights of 1."""
    average, net = HalfLifeAverage(Net(), 1000, **options), Net(1.0)
    for images in updates:
        average.update(net, images)
    return average.module.weight[0].item()


def test_after_a_half_life_half_is_forgotten_whatever_the_batch():
    assert average_after([1000]) == pytest.approx(0.5)
    assert average_after([250] * 4) == pytest.approx(0.5)
    assert average_after([32] * 125) == pytest.approx(1 - 0.5**4, abs=1e-5)


def test_with_a_ramp_first_weights_are_soon_forgotten():
    # The half-life is a twentieth of the images seen: nothing of the first weights is left.
    assert average_after([32], ramp=0.05) == 1
    average = HalfLifeAverage(Net(), 1000, ramp=0.05)
    average.update(Net(1.0), 100)
    assert average.decay(5) == pytest.approx(0.5)
    average.update(Net(1.0), 10**6)
    assert average.decay(1000) == pytest.approx(0.5)


def test_it_continues_from_what_it_was_given_and_copies_buffers():
    average, net = HalfLifeAverage(Net(3.0), 1000), Net(1.0)
    net.count += 7
    average.update(net, 1)
    assert average.module.weight[0].item() == pytest.approx(3.0, abs=0.01)
    assert int(average.module.count) == 7
    assert int(average.images_seen) == 1
    again = HalfLifeAverage(Net(), 1000)
    again.load_state_dict(average.state_dict())
    assert torch.equal(again.module.weight, average.module.weight)
    assert set(average.state_dict()) == {"images_seen", "module.weight", "module.count"}


def test_it_is_never_trained():
    average = HalfLifeAverage(Net(), 1000).train()
    assert not average.module.training
    assert not any(p.requires_grad for p in average.parameters())
