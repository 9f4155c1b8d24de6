"""Two gloo processes: deviations, penalties and gradients are those of one process with the global batch."""

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing
from torch.nn import functional

from networks.distributed import gather_rows_with_gradient, rank_part
from networks.gan.losses import r1_penalty
from networks.gan.stylegan2.discriminator import Discriminator
from networks.gan.stylegan2.generator import StyleGAN2
from networks.gan.stylegan2.minibatch_deviation import minibatch_deviation
from networks.gan.stylegan2.path_length import PathLengthPenalty
from tests.cli.forks import start_server

# Samples of the global batch and of a group: groups within a process, and groups that span both.
GROUPS = [(8, 4), (8, 8), (4, 4), (6, 4)]


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gradients(module):
    """Return the gradients of all parameters, averaged over the processes as DDP does."""
    every = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
    if dist.is_initialized():
        dist.all_reduce(every)
        every /= dist.get_world_size()
    return every


def results(rank, world):
    """Return what a process computes from its part of the global batch."""

    def own(x):
        return x[rank_part(len(x) // world, rank)].clone()

    found = {"gathered": gather_rows_with_gradient(own(drawn(4, 2)))}
    for batch, group in GROUPS:
        x = own(drawn(batch, 3, 4, 4)).requires_grad_()
        maps = minibatch_deviation(x, group, "contiguous")
        found[f"maps {batch} {group}"] = maps.detach()
        # The weights differ by sample, so that a gradient that reaches the wrong one shows.
        (maps[:, 0, 0, 0] * 100 * own(drawn(batch, seed=1))).sum().backward()
        found[f"gradient {batch} {group}"] = x.grad
    torch.manual_seed(0)
    critic = Discriminator(8, 3, channel_base=64, channel_max=8, group=4, grouping="contiguous").double()
    images = own(drawn(4, 3, 8, 8, seed=2).double())
    functional.softplus(critic(images)).mean().backward()
    found["loss gradients"] = gradients(critic)
    critic.zero_grad()
    images.requires_grad_()
    penalty = r1_penalty(critic(images).double(), images)
    penalty.backward()
    found["r1 gradients"] = gradients(critic)
    generator, path = StyleGAN2(8, 0, 8, 8, 3, mapping_layers=1, channel_base=64, channel_max=8), PathLengthPenalty(0.5)
    ws = generator.latents(generator.mapping(own(drawn(4, 8, seed=3))))
    path(generator.synthesis(ws, "const"), ws, own(drawn(4, 3, 8, 8, seed=4))).backward()
    found["path length gradients"], found["mean length"] = gradients(generator), path.mean_length
    return found


def _process(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(results(rank, 2), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    start_server()
    multiprocessing.start_processes(_process, (folder,), nprocs=2, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def one():
    return results(0, 1)


@pytest.mark.parametrize(("batch", "group"), GROUPS)
def test_deviations_and_their_gradients_are_those_of_the_global_batch(batch, group, one, two):
    for name in (f"maps {batch} {group}", f"gradient {batch} {group}"):
        assert torch.allclose(torch.cat([found[name] for found in two]), one[name], atol=1e-5), name
        assert one[name].abs().max() > 1e-3


def test_parts_are_gathered_in_the_order_of_ranks(two):
    for found in two:
        assert torch.equal(found["gathered"], drawn(4, 2))


@pytest.mark.parametrize("name", ["loss gradients", "r1 gradients", "path length gradients", "mean length"])
def test_gradients_are_those_of_the_global_batch(name, one, two):
    for found in two:
        assert torch.allclose(found[name], one[name], rtol=1e-4, atol=1e-5), name
    assert one[name].abs().max() > 1e-3
