"""eps and v of each part: what is predicted tells the image."""

import pytest
import torch

from lightning_modules.dvdp.parameterization import amplitudes, clean_image, target
from lightning_modules.dvdp.projection import at_level, coarse, detail
from tests.dvdp.build import images, process_of


@pytest.mark.parametrize("kind", ["eps", "v"])
@pytest.mark.parametrize("sigma", [None, 0.7])
@pytest.mark.parametrize(("level", "times"), [(0, [1, 150]), (1, [151, 350]), (2, [351, 999])])
def test_a_perfect_prediction_tells_the_image(kind, sigma, level, times):
    process = process_of()
    clean = at_level(images(2), level)
    noise, time = torch.randn_like(clean), torch.tensor(times)
    at = amplitudes(process, level, time, sigma)
    state = process.diffuse(clean, level, time, noise)
    found = clean_image(kind, at, state, target(kind, at, clean, noise), None)
    assert torch.allclose(found, clean, atol=5e-3)


def test_v_by_hand():
    process, clean, noise = process_of(), images(1), torch.randn(1, 1, 16, 16)
    at = amplitudes(process, 0, torch.tensor([100]), 0.5)
    a, s = float(process.signal[100]), float(process.noise[100])
    fading = 0.01 ** (100 / 150)
    by_hand = torch.zeros_like(clean)
    for part, big in ((coarse, a * 0.5), (detail, a * fading * 0.5)):
        c = (big**2 + s**2) ** -0.5
        by_hand += part(c * (big * noise - s * clean / 0.5))
    assert torch.allclose(target("v", at, clean, noise), by_hand, atol=1e-5)


def test_the_network_sees_deviation_one():
    process = process_of()
    clean = 0.4 * torch.randn(16, 1, 32, 32)
    for level, time in ((0, 50), (1, 250), (2, 500)):
        x0 = at_level(clean, level)
        at = amplitudes(process, level, torch.full((16,), time), float(x0.std()))
        seen = at.input(process.diffuse(x0, level, torch.full((16,), time), torch.randn_like(x0)))
        assert seen.std().item() == pytest.approx(1, abs=0.05)
    raw = amplitudes(process, 0, torch.full((16,), 50), None)
    assert raw.input(clean) is clean


def test_a_clamped_eps_keeps_its_coarse_part():
    # Near a turn the detail was divided by 0.01: clamped with it, the coarse part would drown.
    process, clean = process_of(), torch.full((1, 1, 16, 16), 0.5)
    at = amplitudes(process, 0, torch.tensor([150]), None)
    noise = torch.randn_like(clean)
    state = process.diffuse(clean, 0, torch.tensor([150]), noise)
    found = clean_image("eps", at, state, 0.9 * noise, 1.0)
    assert coarse(found).abs().max() <= 1 + 1e-5
    assert (coarse(found) - 0.5).abs().mean() < 0.1
    assert detail(found).abs().max() > 1
