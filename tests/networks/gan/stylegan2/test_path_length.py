"""Path length regularization against a generator whose Jacobian is known."""

import pytest
import torch

from networks.gan.stylegan2.generator import StyleGAN2
from networks.gan.stylegan2.path_length import PathLengthPenalty, draw_directions, path_lengths, shrunk_batch
from networks.noise import BatchNoise


def linear_images(ws, weight):
    """Return images [b, 3, 4, 4] that are linear in the latents of all layers."""
    return torch.einsum("bnw,nwp->bp", ws, weight).unflatten(1, (3, 4, 4))


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_lengths_are_those_of_the_projected_jacobian():
    ws, weight, directions = drawn(2, 5, 6).requires_grad_(), drawn(5, 6, 48, seed=1), drawn(2, 3, 4, 4, seed=2)
    found = path_lengths(linear_images(ws, weight), ws, directions)
    # J^T y of every layer, with y of deviation 1 / sqrt(16 pixels).
    projected = torch.einsum("nwp,bp->bnw", weight, directions.flatten(1) / 4)
    assert torch.allclose(found, projected.square().sum(dim=2).mean(dim=1).sqrt(), rtol=1e-5)


def test_the_penalty_is_the_distance_to_the_running_mean():
    penalty, ws, weight = PathLengthPenalty(0.25), drawn(3, 5, 6).requires_grad_(), drawn(5, 6, 48, seed=1)
    mean = 0.0
    for seed in (2, 3):
        directions = drawn(3, 3, 4, 4, seed=seed)
        lengths = path_lengths(linear_images(ws, weight), ws, directions).detach()
        mean = 0.75 * mean + 0.25 * lengths.mean().item()
        found = penalty(linear_images(ws, weight), ws, directions)
        assert penalty.mean_length.item() == pytest.approx(mean, rel=1e-5)
        assert found.item() == pytest.approx((lengths - mean).square().mean().item(), rel=1e-5)
    assert list(penalty.state_dict()) == ["mean_length"]
    assert not penalty.mean_length.requires_grad


def test_minimizing_it_makes_lengths_equal():
    # Lengths that differ between samples, as the second half's images change ten times as much.
    scale = torch.tensor([1.0, 10.0]).repeat_interleave(4)[:, None, None, None].clone().requires_grad_()
    ws, weight, penalty = drawn(8, 2, 6).requires_grad_(), drawn(2, 6, 48, seed=1), PathLengthPenalty(1.0)
    directions, optimizer, values = drawn(8, 3, 4, 4, seed=2), torch.optim.Adam([scale], lr=0.1), []
    for _ in range(60):
        loss = penalty(scale * linear_images(ws, weight), ws, directions)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.1 * values[0]


def test_it_trains_synthesis_and_mapping_of_a_generator():
    torch.manual_seed(0)
    generator, penalty = StyleGAN2(8, 0, 8, 8, 3, mapping_layers=2, channel_base=64, channel_max=8), PathLengthPenalty()
    ws = generator.latents(generator.mapping(drawn(4, 8)))
    images = generator.synthesis(ws, "const")
    penalty(images, ws, draw_directions(images, BatchNoise(0, 0))).backward()
    for name in ("mapping.fc0.weight", "synthesis.b8.conv1.weight", "synthesis.b4.torgb.affine.weight"):
        assert generator.get_parameter(name).grad.abs().sum() > 0, name
    assert penalty.mean_length > 0


def test_one_sample_in_shrink_is_regularized_and_at_least_one():
    assert [shrunk_batch(batch, 2) for batch in (8, 3, 2, 1)] == [[0, 2, 4, 6], [0, 2], [0], [0]]
    assert shrunk_batch(6, 1) == list(range(6))
