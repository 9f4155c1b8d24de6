"""Signal and noise levels, and that nothing but their construction imports diffusers."""

import ast
from pathlib import Path

import diffusers
import pytest
import torch

import networks.diffusion
from common.errors import UserError
from networks.diffusion.schedule import CLEAN, Schedule, noise_levels
from tests.networks.diffusion.build import randn, schedule_of


def test_levels_by_hand():
    signal, noise = noise_levels(torch.tensor([0.36, 0.75], dtype=torch.float64))
    assert signal.tolist() == pytest.approx([1, 0.8, 0.4])
    assert noise.tolist() == pytest.approx([0, 0.6, 0.84**0.5])
    schedule = Schedule(timesteps=2, beta_schedule="linear", beta_start=0.36, beta_end=0.75)
    assert [float(level) for level in schedule.at(CLEAN)] == [1, 0]
    assert [float(level) for level in schedule.at(1)] == pytest.approx([0.4, 0.84**0.5])
    assert schedule.snr(torch.tensor([0, 1])).tolist() == pytest.approx([0.64 / 0.36, 0.16 / 0.84])


@pytest.mark.parametrize("name", ["linear", "cosine", "scaled_linear"])
def test_noisy_images_are_those_of_diffusers_bit_for_bit(name):
    schedule = schedule_of(name, beta_start=0.00085, beta_end=0.012)
    library = {"linear": "linear", "cosine": "squaredcos_cap_v2", "scaled_linear": "scaled_linear"}[name]
    scheduler = diffusers.DDPMScheduler(1000, 0.00085, 0.012, library)
    clean, noise, timesteps = randn(4, 3, 8, 8), randn(4, 3, 8, 8, seed=1), torch.tensor([0, 10, 500, 999])
    levels = schedule.levels(timesteps)
    assert torch.equal(levels.diffuse(clean, noise), scheduler.add_noise(clean, noise, timesteps))
    assert torch.equal(levels.target("v", clean, noise), scheduler.get_velocity(clean, noise, timesteps))
    assert torch.equal(schedule.at(500).signal, levels.signal[2, 0, 0, 0])


def test_timesteps_are_drawn_uniformly():
    drawn = schedule_of(timesteps=10).draw_timesteps(4000, torch.Generator().manual_seed(0))
    counts = torch.bincount(drawn, minlength=10)
    assert len(counts) == 10
    # Of nine degrees of freedom: 27.9 is the one in a thousand.
    assert ((counts - 400) ** 2 / 400).sum() < 27.9


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"beta_schedule": "sudden"}, "linear, cosine, scaled_linear"),
        ({"timesteps": 0}, "at least 1 timestep"),
        ({"beta_start": 0.1}, "beta_start <= beta_end"),
    ],
)
def test_what_makes_no_schedule_is_refused_in_one_line(options, word):
    with pytest.raises(UserError, match=word) as error:
        Schedule(**options)
    assert "\n" not in str(error.value)


def test_diffusers_is_not_imported_with_the_package():
    files = list(Path(networks.diffusion.__file__).parent.glob("*.py"))
    assert len(files) > 5
    for file in files:
        imports = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = [getattr(node, "module", None) or node.names[0].name for node in imports]
        assert not any(name.startswith("diffusers") for name in names), file
