"""What processes tell each other, in one process and in two."""

import pytest
import torch
from torch import distributed as dist

from networks.distributed import (
    gather_objects,
    gather_rows,
    gather_rows_with_gradient,
    gather_to_first,
    global_mean,
    global_mean_with_gradient,
    mean_over_mask,
    own_positions,
    rank,
    rank_part,
    sum_for_averaged_gradients,
    thinned,
    world_size,
)
from tests.cli.forks import start_server

# Of the first process and of the second.
OF_RANKS = (torch.tensor([3.0]), torch.tensor([1.0, 2.0, 5.0]))


def test_one_process_is_the_identity():
    rows = torch.arange(6.0).reshape(3, 2).requires_grad_()
    assert world_size() == 1
    assert torch.equal(gather_rows(rows), rows)
    assert not gather_rows(rows).requires_grad
    assert sum_for_averaged_gradients(rows) is rows
    assert gather_objects("a") == gather_to_first("a") == ["a"]
    assert gather_rows_with_gradient(rows) is rows
    assert rank() == 0


def test_parts_of_a_global_batch_follow_each_other():
    assert [list(range(6))[rank_part(2, k)] for k in range(3)] == [[0, 1], [2, 3], [4, 5]]


def test_thinned_positions_are_spread_evenly_whoever_holds_them():
    assert thinned(range(8), 1, 2) == [0, 2, 4, 6]
    assert thinned(range(3), 1, 2) + thinned(range(3, 6), 1, 2) == [0, 2, 4]
    assert thinned(range(8), 3, 4) == [0, 2, 3, 4, 6, 7]
    assert thinned(range(5), 1, 1) == list(range(5))
    assert thinned(range(1, 2), 1, 4) == []
    assert own_positions(3) == range(3)


def test_means_of_one_process():
    values, mask = torch.arange(6.0), torch.tensor([1.0, 0, 0, 1, 0, 0])
    assert global_mean(values) == global_mean_with_gradient(values) == 2.5
    assert mean_over_mask(values, mask) == 1.5
    assert mean_over_mask(values, 0 * mask) == 0


def _means(rank):
    """Return the means of unequally many values and their gradients, averaged as DDP does."""
    found = []
    for mean in (
        lambda weight: global_mean(weight * OF_RANKS[rank]),
        lambda weight: mean_over_mask(weight * OF_RANKS[rank], (OF_RANKS[rank] > 1).float()),
        # A mean within a loss of which each process computes a part.
        lambda weight: global_mean(
            (weight * OF_RANKS[rank] - global_mean_with_gradient(weight**2 * OF_RANKS[rank])).square()
        ),
    ):
        weight = torch.tensor(0.5, requires_grad=True)
        loss = mean(weight)
        loss.backward()
        dist.all_reduce(weight.grad)
        found += [loss.item(), weight.grad.item() / 2]
    return found


def _as_rank(rank, file, answers):
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    rows = torch.full((2, 2), rank + 1.0, requires_grad=True)
    total = sum_for_averaged_gradients(rows)
    (total**2).sum().backward()
    # What DDP does with the gradients.
    gradient = rows.grad.clone()
    dist.all_reduce(gradient)
    answers.put(
        (
            rank,
            gather_rows(rows).tolist(),
            total.tolist(),
            (gradient / 2).tolist(),
            gather_objects(f"of {rank}"),
            gather_to_first(rank * 10),
            _means(rank),
        )
    )
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    start_server()
    context = torch.multiprocessing.get_context("forkserver")
    queue, file = context.Queue(), tmp_path_factory.mktemp("ranks") / "rendezvous"
    ranks = [context.Process(target=_as_rank, args=(rank, file, queue)) for rank in range(2)]
    for process in ranks:
        process.start()
    found = sorted(queue.get(timeout=300) for _ in ranks)
    for process in ranks:
        process.join(60)
    return [row[1:] for row in found]


def test_rows_come_in_rank_order(answers):
    assert [answer[0] for answer in answers] == [[[1.0, 1.0], [1.0, 1.0], [2.0, 2.0], [2.0, 2.0]]] * 2


def test_a_sum_and_the_averaged_gradient_are_those_of_one_process(answers):
    assert [answer[1] for answer in answers] == [[[3.0, 3.0], [3.0, 3.0]]] * 2
    # With x = w and y = w + 1, the loss (x + y)^2 has the gradient 4 (x + y) by w.
    assert [answer[2] for answer in answers] == [[[12.0, 12.0], [12.0, 12.0]]] * 2


def test_means_and_their_gradients_are_those_of_all_values(answers):
    values, expected = torch.cat(OF_RANKS), []
    for mean in (
        lambda weight: (weight * values).mean(),
        lambda weight: (weight * values)[values > 1].mean(),
        lambda weight: (weight * values - (weight**2 * values).mean()).square().mean(),
    ):
        weight = torch.tensor(0.5, requires_grad=True)
        loss = mean(weight)
        loss.backward()
        expected += [loss.item(), weight.grad.item()]
    assert all(answer[5] == pytest.approx(expected) for answer in answers)


def test_objects_of_all_and_on_the_first(answers):
    assert [answer[3] for answer in answers] == [["of 0", "of 1"]] * 2
    assert [answer[4] for answer in answers] == [[0, 10], []]
