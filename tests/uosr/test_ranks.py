"""Two gloo processes: gathering without padded duplicates (§2.6), and state that is of the global batch."""

import os
import socket

import numpy as np
import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing

from lightning_modules.collecting import Collector
from networks.distributed import gather_rows
from tests.cli.forks import start_server
from tests.uosr.build import LENGTHS, World, batch, built, stored_outputs, trainer


def _process(rank, folder, ports):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(ports[0]), "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    found = {"rows": gather_rows(torch.tensor([[float(rank)], [10.0 + rank]]))}
    collector = Collector()
    # Rank 1 has fewer batches, sees them in another order, and sample 0 again, as a padding sampler would give it.
    for indices in [[0, 2], [4]] if rank == 0 else [[3, 1, 0]]:
        index = torch.tensor(indices)
        collector.add(index=index, logits=index[:, None] * 2.0)
    found["collected"] = collector.gather()
    empty = Collector()
    if rank == 0:
        empty.add(index=torch.tensor([1, 0]))
    found["one_sided"] = empty.gather()
    for objective in ("vos", "lc"):
        module, made = built(objective), batch(16, outliers=False)
        share = {key: value[8 * rank : 8 * rank + 8] for key, value in made.items()}
        module.eval()
        module.objective(module.network, share)
        found[objective] = module.objective.state_dict()
    dist.destroy_process_group()
    # Another port, for the other rank may not have left the first one yet.
    os.environ["MASTER_PORT"] = str(ports[1])
    found["metrics"] = _metrics(folder / "two", devices=2, strategy="ddp")
    torch.save(found, folder / f"{rank}.pt")


def _metrics(folder, **changes):
    run = trainer(folder, **changes)
    run.test(built(), World(), verbose=False)
    return {key: float(value) for key, value in run.callback_metrics.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as first, socket.socket() as second:
        for free in (first, second):
            free.bind(("127.0.0.1", 0))
        ports = [free.getsockname()[1] for free in (first, second)]
    start_server()
    multiprocessing.start_processes(_process, (folder, ports), nprocs=2, start_method="forkserver")
    return folder


@pytest.fixture(scope="module")
def ranks(folder):
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_rows_of_all_ranks_in_order(ranks):
    for found in ranks:
        assert found["rows"].flatten().tolist() == [0.0, 10.0, 1.0, 11.0]


def test_each_sample_is_collected_once_in_order_on_the_first_rank(ranks):
    first, second = ranks
    assert first["collected"]["index"].tolist() == [0, 1, 2, 3, 4]
    assert first["collected"]["logits"].flatten().tolist() == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert second["collected"] is None
    assert first["one_sided"]["index"].tolist() == [0, 1]


@pytest.mark.parametrize("objective", ["vos", "lc"])
def test_state_is_that_of_the_global_batch(ranks, objective):
    module = built(objective).eval()
    module.objective(module.network, batch(16, outliers=False))
    for key, value in module.objective.state_dict().items():
        for found in ranks:
            assert torch.allclose(found[objective][key], value, atol=1e-5), key


def test_a_test_on_two_processes_is_the_test_on_one(folder, ranks):
    """Lightning's own sampler pads 41 and 37 samples to 42 and 38; the metrics must not see that."""
    expected = _metrics(folder / "one")
    for split, length in LENGTHS.items():
        one, two = (stored_outputs(folder / name / "outputs" / f"{split}.npz") for name in ("one", "two"))
        assert len(two.labels) == length
        assert torch.equal(one.labels, two.labels)
        assert torch.allclose(one.logits, two.logits, atol=1e-5)
    for found in ranks:
        assert found["metrics"].keys() == expected.keys()
        assert found["metrics"]["test/acc"] == expected["test/acc"]
        for key, value in expected.items():
            # A pair of samples that rounding swaps moves an AUROC of 41 by 37 samples by less than this.
            assert np.isclose(found["metrics"][key], value, rtol=0, atol=0.5), key
    assert ranks[0]["metrics"] == ranks[1]["metrics"]
