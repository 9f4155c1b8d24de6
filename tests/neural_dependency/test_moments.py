"""Moments: against numpy, in bfloat16, on two processes, with too few samples (§2.1); errors from them."""

import os
import socket
import warnings

import numpy as np
import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing

from lightning_modules.neural_dependency.moments import Moments, SecondMoments
from lightning_modules.neural_dependency.structure.determinants import ols
from lightning_modules.neural_dependency.structure.errors import fvu, predict, relative_l1, squared_error
from tests.cli.forks import start_server


def logits(count=700, categories=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(count, 8, generator=generator) @ torch.randn(8, categories, generator=generator)
    return mixed + 0.3 * torch.randn(count, categories, generator=generator) - 4


def moments_of(rows):
    metric = SecondMoments(rows.shape[1])
    metric.update(rows)
    return metric.compute()


def _process(rank, folder, port):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    metric = SecondMoments(12)
    # Three batches and one, so neither counts nor batches are equal.
    for batch in logits()[:600].split(200) if rank == 0 else [logits()[600:]]:
        metric.update(batch)
    found = metric.compute()
    torch.save(
        {"count": found.count, "mean": found.mean.tolist(), "second": found.second.tolist()}, folder / f"{rank}.pt"
    )
    dist.destroy_process_group()


def test_two_processes_are_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start_server()
    multiprocessing.start_processes(_process, (tmp_path, port), nprocs=2, start_method="forkserver")
    one = moments_of(logits())
    for rank in range(2):
        two = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert two["count"] == one.count == 700
        assert np.abs(np.array(two["mean"]) - one.mean).max() < 1e-9
        assert np.abs(np.array(two["second"]) - one.second).max() < 1e-9


def test_moments_are_those_of_numpy():
    found, rows = moments_of(logits()), logits().double().numpy()
    assert found.second.dtype == found.mean.dtype == np.float64
    assert np.allclose(found.covariance(center=False), rows.T @ rows / 700, atol=1e-12)
    assert np.allclose(found.covariance(center=True), np.cov(rows.T, bias=True), atol=1e-10)
    part = found.select([5, 2])
    assert np.allclose(part.covariance(center=True), np.cov(rows[:, [5, 2]].T, bias=True), atol=1e-10)


def test_sums_stay_float64_in_a_module_of_lower_precision():
    """§2.1: bfloat16 logits and a half-precision module around the metric."""
    holder = torch.nn.Module()
    holder.metric = SecondMoments(12)
    holder.half()
    holder.metric.update(logits().bfloat16())
    rows = logits().bfloat16().double().numpy()
    assert np.allclose(holder.metric.compute().second, rows.T @ rows / 700, atol=1e-12)


@pytest.mark.parametrize("bad", [torch.zeros(4, 11), torch.zeros(12), torch.full((2, 12), torch.nan)])
def test_bad_logits_are_refused(bad):
    with pytest.raises(ValueError, match="logits"):
        SecondMoments(12).update(bad)


def test_nothing_has_no_moments():
    with pytest.warns(UserWarning, match="compute"), pytest.raises(ValueError, match="nothing"):
        SecondMoments(3).compute()


def test_too_few_samples_are_refused_or_warned_of():
    """§2.1."""
    with pytest.raises(ValueError, match="rank 11"):
        moments_of(logits(11)).check()
    with pytest.warns(UserWarning, match="held-out"):
        moments_of(logits(24)).check()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        moments_of(logits(120)).check()


def test_noise_explains_nothing_out_of_sample():
    """§2.1: with n = 2 K, least squares of Gaussian noise looks good on its own samples only."""
    generator = torch.Generator().manual_seed(0)
    one, two = (
        moments_of(torch.randn(100, 50, generator=generator)),
        moments_of(torch.randn(5000, 50, generator=generator)),
    )
    weights, targets = ols(one.covariance(center=True)), np.arange(50)
    assert np.median(fvu(weights, targets, one, one.mean)) < 0.6
    assert np.median(fvu(weights, targets, two, one.mean)) > 0.9


@pytest.mark.parametrize("center", [True, False])
def test_errors_from_moments_are_errors_on_logits(center):
    one, rows = moments_of(logits()), logits(300, seed=1)
    two, targets = moments_of(rows), np.array([3, 7])
    centre = one.mean if center else None
    weights = ols(one.covariance(center))[targets]
    missed = rows[:, targets].double() - predict(rows, weights, centre, targets)
    assert np.allclose(squared_error(weights, targets, two, centre), missed.square().mean(0), atol=1e-9)
    variance = rows[:, targets].double().var(0, correction=0).numpy()
    assert np.allclose(fvu(weights, targets, two, centre), missed.square().mean(0).numpy() / variance, atol=1e-9)
    expected = missed.abs().mean(0) / rows[:, targets].double().abs().mean(0)
    assert np.allclose(relative_l1(rows, weights, targets, centre), expected)


def test_a_constant_logit_has_no_fraction():
    constant = Moments(10, np.array([2.0, 0.0]), np.array([[4.0, 0.0], [0.0, 1.0]]))
    assert np.isnan(fvu(np.zeros((1, 2)), [0], constant, constant.mean)).all()
