"""Guidance between two condition sets."""

import pytest
import torch

from networks.diffusion.conditions import Conditions, concatenated
from networks.diffusion.guidance import guided
from tests.networks.diffusion.build import conditioned_of, randn


class Linear:
    """Predicts x plus the sums of its conditions; notes the size of every batch."""

    def __init__(self):
        self.batches = []

    def __call__(self, x, timesteps, conditions=None):
        self.batches.append(len(x))
        given = conditions or Conditions()
        output = x + timesteps[:, None, None, None]
        if given.vector is not None:
            output = output + given.vector.sum(1)[:, None, None, None]
        if given.tokens is not None:
            counts = torch.ones(given.tokens.shape[:2]) if given.token_mask is None else given.token_mask
            output = output + (given.tokens * counts[..., None]).sum((1, 2))[:, None, None, None]
        return output


A = Conditions(vector=torch.tensor([[1.0], [3.0]]))
BOTH = Conditions(vector=A.vector, tokens=torch.tensor([[[10.0]], [[20.0]]]))
TIMES = torch.tensor([5, 5])


def test_what_is_in_both_sets_has_weight_one_and_what_is_in_one_its_own():
    x, network = randn(2, 1, 2, 2), Linear()
    found = guided(network, BOTH, A, weight=3.0)(x, TIMES)
    expected = x + 5 + torch.tensor([1 + 3 * 10.0, 3 + 3 * 20.0])[:, None, None, None]
    assert torch.allclose(found, expected)
    assert network.batches == [4]
    # The other way round the tokens are suppressed with 1 - w.
    found = guided(network, A, BOTH, weight=3.0)(x, TIMES)
    assert torch.allclose(found, x + 5 + torch.tensor([1 - 2 * 10.0, 3 - 2 * 20.0])[:, None, None, None])


def test_no_base_is_classifier_free_guidance():
    x, network = randn(2, 1, 2, 2), Linear()
    found = guided(network, A, weight=2.0)(x, TIMES)
    assert torch.allclose(found, x + 5 + 2 * A.vector[:, :, None, None])


@pytest.mark.parametrize(("weight", "of"), [(1.0, BOTH), (0.0, A)])
def test_a_weight_of_one_or_zero_calls_the_network_on_one_set(weight, of):
    x, network = randn(2, 1, 2, 2), Linear()
    found = guided(network, BOTH, A, weight=weight)(x, TIMES)
    assert network.batches == [2]
    assert torch.equal(found, Linear()(x, TIMES, of))


def test_sets_of_any_kind_go_into_one_batch():
    tokens = randn(2, 3, 4)
    first = Conditions(tokens=tokens, local=torch.ones(2, 1, 8, 8))
    second = Conditions(tokens=tokens[:, :2], token_mask=torch.tensor([[True, False], [True, True]]), vector=A.vector)
    pair = concatenated(first, second)
    assert torch.equal(pair.tokens[:2], tokens)
    assert torch.equal(pair.tokens[2:, :2], tokens[:, :2])
    assert pair.token_mask.int().tolist() == [[1, 1, 1], [1, 1, 1], [1, 0, 0], [1, 1, 0]]
    assert pair.local.sum((1, 2, 3)).tolist() == [64, 64, 0, 0]
    assert pair.vector.flatten().tolist() == [0, 0, 1, 3]
    # As many tokens on both sides, and none dropped: no mask, which saves time.
    assert concatenated(first, first).token_mask is None
    assert concatenated(Conditions(), Conditions()) == Conditions()


@pytest.mark.parametrize("joint", [False, True])
def test_one_call_of_a_network_predicts_what_two_do(joint):
    network = conditioned_of(joint_attention=joint, has_vector=True, local_channels=2)
    x, times = randn(2, 3, 8, 8), torch.tensor([10, 700])
    c2 = Conditions(tokens=randn(2, 5, 6), vector=randn(2, 32), local=randn(2, 2, 8, 8))
    for base in (None, Conditions(local=c2.local), Conditions(tokens=randn(2, 2, 6, seed=4))):
        with torch.no_grad():
            found = guided(network, c2, base, weight=4.0)(x, times)
            expected = 4 * network(x, times, c2) - 3 * network(x, times, base)
        assert torch.allclose(found, expected, atol=1e-4)
