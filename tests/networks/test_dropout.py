"""Dropout by the position in the global batch."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from networks.dropout import PositionedDropout, positioned_dropouts
from networks.noise import BatchNoise


def network(p=0.5):
    return nn.Sequential(nn.Dropout(p), nn.Sequential(nn.Linear(6, 6), nn.Dropout(p)))


def begun(step=0, p=0.5):
    torch.manual_seed(0)
    module = network(p)
    dropouts = positioned_dropouts(module)
    for dropout in dropouts:
        dropout.begin(BatchNoise(0, step))
    return module, dropouts


def test_every_dropout_is_found_once_under_its_name():
    module, dropouts = begun()
    assert [dropout.stream for dropout in dropouts] == ["0", "1.1"]
    assert all(type(dropout) is PositionedDropout for dropout in dropouts)
    assert positioned_dropouts(module) == dropouts
    assert list(module.state_dict()) == list(network().state_dict())


def test_masks_follow_their_law_and_differ_by_layer_call_and_batch():
    masks = []
    for step in (0, 1):
        _, dropouts = begun(step, 0.2)
        masks += [dropout(torch.ones(1000, 6)) for dropout in dropouts for _ in range(2)]
    assert all(mask.unique().tolist() == [0, 1.25] for mask in masks)
    assert all((mask == 0).float().mean().item() == pytest.approx(0.2, abs=0.03) for mask in masks)
    for k, mask in enumerate(masks):
        assert not any(torch.equal(mask, other) for other in masks[:k])
    _, again = begun(1, 0.2)
    assert torch.equal(again[0](torch.ones(1000, 6)), masks[4])


def test_a_process_has_its_part_of_the_global_mask(monkeypatch):
    whole = begun()[1][0](torch.ones(8, 6))
    monkeypatch.setattr("networks.dropout.world_size", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr("networks.dropout.rank", lambda rank=rank: rank)
        assert torch.equal(begun()[1][0](torch.ones(4, 6)), whole[4 * rank : 4 * rank + 4])


def test_a_layer_that_is_left_out_moves_no_other():
    one, other = begun()[0], begun()[0]
    x = torch.ones(4, 6)
    other[0](x)
    assert torch.equal(one[1](x), other[1](x))


def test_what_is_computed_twice_drops_the_same():
    gradients = []
    for twice in (False, True):
        module, _ = begun()
        x = torch.ones(4, 6, requires_grad=True)
        for _ in range(2):
            out = checkpoint(module, x, use_reentrant=False) if twice else module(x)
            x = x + out
        x.square().sum().backward()
        gradients.append(module[1][0].weight.grad)
    assert torch.equal(*gradients)


def test_outside_of_a_batch_and_of_training_it_is_torchs():
    dropouts = begun()[1]
    x = torch.ones(4, 6)
    assert torch.equal(dropouts[0].eval()(x), x)
    fresh = positioned_dropouts(network())[0]
    torch.manual_seed(3)
    found = fresh(x)
    torch.manual_seed(3)
    assert torch.equal(found, nn.Dropout(0.5)(x))
