"""Noise by the position in the global batch: streams, shares, and what no draw may move."""

import pytest
import torch

from networks.noise import BatchNoise
from networks.seeds import named_seed, own_initialization


def test_a_share_has_the_numbers_of_its_positions():
    noise = BatchNoise(0, 3)
    for name in ("normal", "uniform"):
        whole = getattr(noise, name)("a", (8, 3, 7))
        assert torch.equal(whole[4:], getattr(noise.at(range(4, 8)), name)("a", (4, 3, 7)))
    assert torch.equal(noise.integers("t", 0, 1000, (8,))[2:], noise.at(range(2, 8)).integers("t", 0, 1000, (6,)))
    assert torch.equal(noise.at([5, 1]).normal("a", (2, 4)), noise.normal("a", (8, 4))[[5, 1]])


def test_seed_step_name_and_part_give_other_numbers():
    others = [
        BatchNoise(1, 0).normal("a", (2, 4)),
        BatchNoise(0, 1).normal("a", (2, 4)),
        BatchNoise(0, 0).normal("b", (2, 4)),
        BatchNoise(0, 0).part("a").normal("a", (2, 4)),
        BatchNoise(0, 0).at([2, 3]).normal("a", (2, 4)),
    ]
    first = BatchNoise(0, 0).normal("a", (2, 4))
    assert torch.equal(first, BatchNoise(0, 0).normal("a", (2, 4)))
    rows = torch.cat([first, *others])
    assert len(rows.unique(dim=0)) == 12


def test_numbers_follow_their_law():
    noise = BatchNoise(0, 0)
    one_each = noise.normal("a", (4000, 1))
    assert abs(one_each.mean()) < 0.06
    assert abs(one_each.std() - 1) < 0.05
    even = noise.uniform("a", (4000,))
    counts = torch.histc(even, 10, 0, 1)
    # Of nine degrees of freedom: 27.9 is the one in a thousand.
    assert ((counts - 400) ** 2 / 400).sum() < 27.9
    whole = noise.integers("a", 3, 6, (3000,))
    assert whole.unique().tolist() == [3, 4, 5]
    assert torch.corrcoef(torch.stack([noise.normal(name, (2000,)) for name in "ab"]))[0, 1].abs() < 0.08


def test_what_is_no_samples_is_shared():
    noise = BatchNoise(0, 2)
    assert torch.equal(
        torch.randperm(9, generator=noise.shared("order")), torch.randperm(9, generator=noise.shared("order"))
    )
    assert not torch.equal(
        torch.randperm(9, generator=noise.shared("order")), torch.randperm(9, generator=noise.shared("other"))
    )
    with noise.seeding("beta"):
        first = torch.rand(3)
    torch.rand(5)
    with noise.seeding("beta"):
        assert torch.equal(first, torch.rand(3))


def test_no_draw_moves_torchs_own_generator():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    noise = BatchNoise(0, 0)
    noise.normal("a", (4, 2))
    noise.shared("b")
    with noise.seeding("c"):
        torch.rand(7)
    with own_initialization("part"):
        torch.nn.Linear(3, 3)
    assert torch.equal(torch.rand(3), expected)


def test_an_own_initialization_depends_on_seed_and_name_alone():
    def weights(seed, name, before=0):
        torch.manual_seed(seed)
        torch.rand(before)
        with own_initialization(name):
            return torch.nn.Linear(3, 3).weight

    assert torch.equal(weights(0, "a"), weights(0, "a", before=5))
    assert not torch.equal(weights(0, "a"), weights(1, "a"))
    assert not torch.equal(weights(0, "a"), weights(0, "b"))


def test_as_many_positions_as_samples():
    with pytest.raises(ValueError, match="noise of 2 samples, numbers asked for 3"):
        BatchNoise(0, 0).at([0, 1]).normal("a", (3, 1))


def test_seeds_of_names_are_whole_numbers_below_2_to_the_63():
    seeds = {named_seed(0, "a", k) for k in range(100)} | {named_seed(0, "b", 0), named_seed(1, "a", 0)}
    assert len(seeds) == 102
    assert all(0 <= seed < 2**63 for seed in seeds)
