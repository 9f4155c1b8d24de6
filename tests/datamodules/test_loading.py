import tracemalloc

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from datamodules.loading import BatchPlan, Mixture, make_loader, mix


class Fetched(Dataset):
    def __init__(self, size):
        self.values = torch.arange(size, dtype=torch.float32).view(-1, 1, 1, 1)

    def __len__(self):
        return len(self.values)

    def fetch(self, indices):
        return {"image": self.values[indices], "label": torch.tensor(indices, dtype=torch.int64)}


class Noisy(Dataset):
    def __len__(self):
        return 20

    def __getitem__(self, index):
        return {"image": torch.rand(3, 2, 2) + index, "label": index}


def plan(size=50, batch=8, extra=None, **options):
    sizes, batches = {"": size}, {"": batch}
    if extra:
        sizes["outlier"], batches["outlier"] = extra
    return BatchPlan(sizes, batches, **{"seed": 3, "shuffle": True, "drop_last": True} | options)


def epoch(plan, number):
    plan.set_epoch(number)
    return list(plan)


def test_batches_depend_on_seed_epoch_and_position_alone():
    first = plan()
    epochs = [epoch(first, number) for number in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    assert epoch(plan(), 2) == epochs[2]
    assert epoch(first, 1) == epochs[1]
    assert epoch(plan(seed=4), 0) != epochs[0]


def test_an_epoch_draws_every_sample_once_at_most():
    drawn = [draw.index for batch in epoch(plan(), 0) for draw in batch]
    assert len(set(drawn)) == len(drawn) == 48


@pytest.mark.parametrize("extra", [None, (13, 4)])
def test_two_ranks_share_the_global_batches_of_one(extra):
    one, ranks = plan(extra=extra), [plan(extra=extra, rank=rank, world=2) for rank in range(2)]
    for number in range(2):
        whole, halves = epoch(one, number), [epoch(rank, number) for rank in ranks]
        for batch, left, right in zip(whole, *halves, strict=True):
            assert len(left) == len(right)
            assert sorted(batch) == sorted(left + right)
            known = [draw for draw in batch if draw.source == ""]
            assert known == [draw for part in (left, right) for draw in part if draw.source == ""]


@pytest.mark.parametrize("extra", [None, (13, 4)])
def test_start_mid_epoch_is_the_tail_and_the_next_epoch_is_whole(extra):
    straight = [epoch(plan(extra=extra), number) for number in range(4)]
    resumed = plan(extra=extra)
    resumed.start_at(2, 4)
    # Loader workers read the plan before the epoch is set.
    assert list(resumed) == straight[2][4:]
    assert epoch(resumed, 2) == straight[2][4:]
    assert epoch(resumed, 3) == straight[3]
    assert len(resumed) == len(straight[2])


def test_start_behind_the_last_batch_leaves_the_next_epoch_whole():
    resumed = plan()
    resumed.start_at(1, 0)
    assert epoch(resumed, 1) == epoch(plan(), 1)


def test_outliers_go_round_and_go_on_over_epochs():
    outliers = [
        draw for number in range(5) for batch in epoch(plan(extra=(13, 4)), number) for draw in batch if draw.source
    ]
    assert len(outliers) == 5 * 6 * 4
    for first in range(0, 104, 13):
        assert sorted(draw.index for draw in outliers[first : first + 13]) == list(range(13))
    assert {draw.epoch for draw in outliers[:26]} == {0, 1}


def test_sources_of_one_size_have_orders_of_their_own():
    known, outliers = [], []
    for draw in epoch(plan(16, 8, (16, 8)), 0)[0]:
        (outliers if draw.source else known).append(draw.index)
    assert known != outliers


def test_outliers_do_not_change_the_order_of_the_known():
    known = [[draw for draw in batch if draw.source == ""] for batch in epoch(plan(extra=(13, 4)), 1)]
    assert known == epoch(plan(), 1)


def test_the_leading_source_sets_the_length():
    assert len(plan(extra=(1000, 4))) == len(plan(extra=(5, 4))) == 50 // 8
    loader = make_loader(Mixture({"": Fetched(50), "outlier": Fetched(1000)}, 0), plan(extra=(1000, 4)))
    assert len(list(loader)) == len(loader) == 6


@pytest.mark.parametrize("size", [1, 2, 7, 16, 17])
def test_ranks_share_an_evaluation_without_padding(size):
    parts = [plan(size, shuffle=False, drop_last=False, rank=rank, world=2) for rank in range(2)]
    batches = [list(part) for part in parts]
    assert len(batches[0]) == len(batches[1])
    drawn = [draw.index for pair in zip(*batches, strict=True) for half in pair for draw in half]
    assert drawn == list(range(size))


@pytest.mark.parametrize("source", [Fetched(1), Noisy()])
def test_an_empty_share_has_the_shapes_of_a_full_one(source):
    mixture = Mixture({"": source}, 0)
    full = mixture.__getitems__(next(iter(plan(1, shuffle=False, drop_last=False))))
    empty = mixture.__getitems__(next(iter(plan(1, shuffle=False, drop_last=False, world=2))))
    assert {key: (value.shape[1:], value.dtype) for key, value in empty.items()} == {
        key: (value.shape[1:], value.dtype) for key, value in full.items()
    }
    assert all(len(value) == 0 for value in empty.values())


def test_evaluation_is_the_same_in_every_epoch():
    loader = make_loader(Mixture({"": Noisy()}, 0), plan(20, shuffle=False, drop_last=False))
    first = torch.cat([batch["image"] for batch in loader])
    loader.batch_sampler.set_epoch(5)
    assert torch.equal(first, torch.cat([batch["image"] for batch in loader]))


def noisy_epochs(workers, world=1):
    images = {}
    for rank in range(world):
        mixture = Mixture({"": Noisy(), "outlier": Noisy()}, 7)
        loader = make_loader(mixture, plan(20, 4, (20, 4), rank=rank, world=world), num_workers=workers)
        for number in range(2):
            loader.batch_sampler.set_epoch(number)
            for batch in loader:
                for index, image in zip(batch["index"].tolist(), batch["image"], strict=True):
                    images[number, index] = image
    return images


def test_augmentation_depends_on_seed_epoch_and_index_alone():
    alone = noisy_epochs(0)
    assert len(alone) == 40
    for other in (noisy_epochs(2), noisy_epochs(0, world=2)):
        assert all(torch.equal(other[key], image) for key, image in alone.items())
    assert not torch.equal(alone[0, 3], alone[1, 3])


def test_sources_have_noise_of_their_own():
    mixture = Mixture({"": Noisy(), "outlier": Noisy()}, 7)
    draws = [draw for draw in epoch(plan(20, 20, (20, 20)), 0)[0] if draw.index == 3]
    batch = mixture.__getitems__(draws)
    assert not torch.equal(batch["image"], batch["outlier"])


def test_loading_leaves_the_training_noise_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    list(make_loader(Mixture({"": Noisy()}, 0), plan(20, 4)))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"size": 5}, "5 samples"), ({"size": 0, "drop_last": False}, "0 samples"), ({"world": 3}, "3 processes")],
)
def test_what_cannot_be_batched_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        plan(**options)


def test_ten_million_samples_are_shuffled_in_small_memory():
    tracemalloc.start()
    plan = BatchPlan({"": 10_000_000}, {"": 256}, seed=1, shuffle=True, drop_last=True)
    for epoch in range(2):
        plan.set_epoch(epoch)
        batch = next(iter(plan))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len({draw.index for draw in batch}) == 256
    assert peak < 200e6


def test_an_order_is_that_of_numpys_permutation():
    # What runs of before are made of.
    plan = BatchPlan({"": 1000}, {"": 10}, seed=1, shuffle=True)
    found = [draw.index for draws in plan for draw in draws]
    assert found == np.random.default_rng(mix(1, 0, 0)).permutation(1000).tolist()


@pytest.mark.parametrize("worlds", [(2, 1), (1, 4), (4, 2)])
def test_another_number_of_processes_goes_on_in_the_same_order(worlds):
    before, after = worlds
    whole = [[draw.index for draw in draws] for draws in BatchPlan({"": 100}, {"": 8}, seed=3, shuffle=True)]

    def seen(world, first=0):
        plans = [BatchPlan({"": 100}, {"": 8}, seed=3, shuffle=True, rank=rank, world=world) for rank in range(world)]
        for plan in plans:
            plan.start_at(0, first)
        return [[draw.index for part in parts for draw in part] for parts in zip(*plans, strict=True)]

    assert seen(before)[:5] + seen(after, first=5) == whole
