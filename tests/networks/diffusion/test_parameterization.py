"""eps, v and x_0 say the same of a noisy image."""

import pytest
import torch

from networks.diffusion.parameterization import Levels
from tests.networks.diffusion.build import randn, schedule_of

KINDS = ("eps", "v", "x0")


def test_by_hand():
    levels = Levels(torch.tensor(0.6), torch.tensor(0.8))
    clean, eps = torch.tensor([1.0]), torch.tensor([-2.0])
    assert levels.diffuse(clean, eps).item() == pytest.approx(0.6 - 1.6)
    assert levels.target("v", clean, eps).item() == pytest.approx(0.6 * -2 - 0.8)
    assert levels.target("eps", clean, eps) is eps
    assert levels.target("x0", clean, eps) is clean


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_a_perfect_prediction_gives_image_and_noise(kind, name):
    levels = schedule_of(name).levels(torch.tensor([0, 300, 900]))
    levels = Levels(*(level.double() for level in levels))
    clean, eps = randn(3, 2, 4, 4, dtype=torch.float64), randn(3, 2, 4, 4, seed=1, dtype=torch.float64)
    x, output = levels.diffuse(clean, eps), levels.target(kind, clean, eps)
    # Levels come in single precision, and eps is divided by a signal level, x_0 by a noise level.
    assert torch.allclose(levels.clean(kind, x, output), clean, atol=1e-5)
    assert torch.allclose(levels.eps(kind, x, output), eps, atol=1e-5)
