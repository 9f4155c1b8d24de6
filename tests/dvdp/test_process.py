"""The forward process, its turning points, and one step of its reverse."""

import pytest
import torch

from common.errors import UserError
from lightning_modules.dvdp.attenuation import NAMES, attenuation
from lightning_modules.dvdp.process import Process, apply
from lightning_modules.dvdp.projection import at_level, coarse, detail, down, up
from tests.dvdp.build import images, process_of


def test_the_projection_keeps_inner_products():
    # A mean without the factor 2 would shrink images against the noise (§2.1).
    x = torch.randn(3, 2, 8, 8, dtype=torch.float64)
    assert torch.equal(down(up(x)), x)
    squares = [part.square().sum() for part in (x, down(x), detail(x))]
    assert squares[0] == pytest.approx(squares[1] + squares[2])
    assert torch.allclose(coarse(x), up(down(x)))
    assert torch.allclose(coarse(detail(x)), torch.zeros(()).double(), atol=1e-12)
    noise = torch.randn(64, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    assert down(noise).var().item() == pytest.approx(1, abs=0.02)
    assert at_level(torch.ones(1, 1, 8, 8), 2).unique().tolist() == [4]


@pytest.mark.parametrize("kind", NAMES)
def test_attenuation_falls_from_one_to_delta(kind):
    curve = attenuation(kind, torch.linspace(0, 1, 101, dtype=torch.float64), 0.05)
    assert curve[0] == 1
    assert curve[-1] == pytest.approx(1 if kind == "none" else 0.05)
    assert (curve.diff() <= 0).all()


def test_what_is_dropped_at_a_turning_point_has_faded_to_delta():
    # Without attenuation this is only a resize (§2.2).
    process, clean = process_of(delta=0.03), images().double()
    for level, turn in enumerate((150, 350)):
        x0 = at_level(clean, level)
        mean = process.diffuse(x0, level, torch.full((4,), turn), torch.zeros_like(x0))
        share = detail(mean).norm() / detail(x0).norm()
        assert share.item() == pytest.approx(0.03 * float(process.signal[turn]), rel=1e-5)
        # D of it is a valid state of the next level, exactly.
        after = process.signal[turn].float() * down(x0)
        assert torch.allclose(down(mean), after, atol=1e-6)


def test_steps_one_by_one_have_the_moments_of_the_closed_form():
    # Per step: lambda = ratio of the cumulative ones, variance s_t^2 - lambda^2 s_{t-1}^2 (§2.2).
    process = process_of([60, 120], timesteps=200, delta=0.1)
    of_coarse, of_detail, variance = 1.0, 1.0, [0.0, 0.0]
    for time in range(1, 201):
        level = process.level_of(time)
        if time - 1 == process.bounds[level] and level:
            # After the turn everything that is left is coarse, and has a detail of its own.
            of_detail, variance[1] = of_coarse, variance[0]
        before, now = (process._lambdas(level, t) for t in (time - 1, time))
        s = [float(process.noise[t]) for t in (time - 1, time)]
        for part, (then, at) in enumerate(zip(before, now, strict=True)):
            ratio = at / then
            fresh = s[1] ** 2 - ratio**2 * s[0] ** 2
            assert fresh >= 0
            variance[part] = ratio**2 * variance[part] + fresh
            of_coarse, of_detail = (of_coarse * ratio, of_detail) if part == 0 else (of_coarse, of_detail * ratio)
        if time in (60, 120, 200):
            closed = [float(x) for x in process.amplitudes(level, torch.tensor([time]))]
            assert [of_coarse, of_detail] == pytest.approx(closed[:2], rel=1e-5)
            assert variance == pytest.approx([closed[2] ** 2] * 2, rel=1e-5)


@pytest.mark.parametrize(("level", "time", "earlier"), [(0, 150, 149), (0, 100, 37), (1, 350, 150), (2, 1000, 999)])
def test_the_reverse_step_is_the_posterior_of_the_joint_gaussian(level, time, earlier):
    # Each part has a posterior of its own (§2.3); here from the joint covariance of (x_r, x_t) given x_0.
    process = process_of(delta=0.05)
    step = process.step(level, time, earlier, eta=1.0)
    clean, state = 0.7, -0.4
    s = [float(process.noise[t]) for t in (earlier, time)]
    for part in range(2):
        then, now = (process._lambdas(level, t)[part] for t in (earlier, time))
        ratio = now / then
        covariance = s[0] ** 2 * ratio
        mean = then * clean + covariance / s[1] ** 2 * (state - now * clean)
        variance = s[0] ** 2 - covariance**2 / s[1] ** 2
        assert step.state[part] * state + step.clean[part] * clean == pytest.approx(mean, rel=1e-9)
        assert step.noise[part] ** 2 == pytest.approx(variance, rel=1e-6)
    assert (step.noise[0] == step.noise[1]) == (level == 2)


def test_ddim_is_deterministic_and_keeps_the_noise():
    process = process_of()
    step = process.step(1, 300, 200, eta=0.0)
    assert step.noise == (0, 0)
    clean, noise = images(size=8).double(), torch.randn(4, 1, 8, 8, dtype=torch.float64)
    at = [process.diffuse(clean, 1, torch.full((4,), t), noise) for t in (300, 200)]
    assert torch.allclose(apply(step, at[0], clean, None), at[1], atol=1e-5)


def test_the_jump_adds_noise_to_the_new_part_alone():
    # D of the finer state is the coarser one (§2.4).
    process = process_of()
    x = torch.randn(64, 1, 8, 8, dtype=torch.float64)
    noise = torch.randn(64, 1, 16, 16, dtype=torch.float64)
    jumped = process.jump(x, 2, noise)
    assert torch.allclose(down(jumped), x, atol=1e-12)
    # Three of four dimensions of the finer image are detail.
    variance = detail(jumped).square().sum() / (64 * 192)
    assert variance.item() == pytest.approx(float(process.noise[350]) ** 2, rel=0.05)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"turning_points": [350, 150]}, "later than the one before"),
        ({"turning_points": [150, 150]}, "later than the one before"),
        ({"turning_points": [0, 150]}, "between 1 and 999"),
        ({"turning_points": [150, 1000]}, "between 1 and 999"),
        ({"delta": 0.0}, "above 0"),
        ({"delta": 1.5}, "at most 1"),
        ({"attenuation": "sudden"}, "geometric, linear, cosine, none"),
        ({"beta_start": 0.1, "beta_end": 0.02}, "first <= last"),
        ({"timesteps": 0}, "at least 1,"),
    ],
)
def test_what_makes_no_process_is_refused_in_one_line(changes, word):
    with pytest.raises(UserError, match=word) as error:
        Process(**changes)
    assert "\n" not in str(error.value)


def test_the_start_is_told_of_when_images_are_not_yet_noise():
    assert process_of().start_is_off(1.0) == pytest.approx(0.0063, rel=0.05)
    assert process_of([20, 40], timesteps=100).start_is_off(1.0) > 0.1
