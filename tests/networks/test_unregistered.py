"""A module that is used without being owned."""

import torch
from torch import nn

from networks.unregistered import Unregistered


class Owner(nn.Module):
    def __init__(self):
        super().__init__()
        self.built = 0
        self.evaluator = Unregistered(self.build)

    def build(self):
        self.built += 1
        return nn.Linear(2, 2)


def test_it_is_built_once_and_belongs_to_nobody():
    owner = Owner()
    assert owner.built == 0
    first = owner.evaluator.on(torch.device("cpu"))
    assert owner.evaluator.on(torch.device("cpu")) is first
    assert owner.built == 1
    assert not list(owner.parameters())
    assert owner.state_dict() == {}
    assert owner.evaluator.on(torch.device("meta")).weight.is_meta


def test_there_may_be_none():
    assert Unregistered(lambda: None).on(torch.device("cpu")) is None
