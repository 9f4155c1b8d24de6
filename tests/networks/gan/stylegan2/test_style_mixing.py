"""Style mixing: which layers take the other latent, and how often."""

import pytest
import torch

from networks.gan.stylegan2.style_mixing import draw_cutoffs, mix_styles
from networks.noise import BatchNoise


def test_layers_from_the_cutoff_on_are_the_others():
    ws, other = torch.zeros(3, 4, 2), torch.ones(3, 4, 2)
    mixed = mix_styles(ws, other, torch.tensor([1, 3, 4]))
    assert mixed[..., 0].tolist() == [[0, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert torch.equal(mixed[..., 0], mixed[..., 1])


def test_cutoffs_are_even_over_the_layers_and_as_often_as_asked():
    cutoffs = draw_cutoffs(20000, 6, 0.9, BatchNoise(0, 0))
    shares = torch.bincount(cutoffs, minlength=7) / len(cutoffs)
    assert shares.tolist() == pytest.approx([0, *[0.9 / 5] * 5, 0.1], abs=0.01)
    again = draw_cutoffs(20000, 6, 0.9, BatchNoise(0, 0))
    assert torch.equal(cutoffs, again)


def test_without_probability_or_layers_nothing_is_mixed():
    noise = BatchNoise(0, 0)
    assert draw_cutoffs(50, 6, 0.0, noise).unique().tolist() == [6]
    assert draw_cutoffs(50, 1, 1.0, noise).unique().tolist() == [1]


def test_gradients_reach_both_latents():
    ws, other = torch.randn(2, 4, 3).requires_grad_(), torch.randn(2, 4, 3).requires_grad_()
    mix_styles(ws, other, torch.tensor([1, 2])).sum().backward()
    assert ws.grad[..., 0].tolist() == [[1, 0, 0, 0], [1, 1, 0, 0]]
    assert other.grad[..., 0].tolist() == [[0, 1, 1, 1], [0, 0, 1, 1]]
