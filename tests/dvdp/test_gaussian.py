"""On Gaussian data the best predictor is linear, so the error of a whole reverse chain is exact (§6)."""

import numpy as np
import pytest
import torch

from lightning_modules.dvdp.process import Process
from lightning_modules.dvdp.sampler import visits

SIZE = 32


def covariance(length):
    place = np.arange(SIZE)
    return 0.25 * np.exp(-((place[:, None] - place) ** 2) / (2 * length**2)) + 1e-4 * np.eye(SIZE)


def pairs(size):
    """D of one dimension: the orthonormal pair average [size / 2, size]."""
    return np.kron(np.eye(size // 2), np.full((1, 2), 0.5**0.5))


def root(matrix):
    values, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag(np.sqrt(values.clip(0))) @ vectors.T


def distance(one, two):
    """W2^2 of two centred Gaussians."""
    middle = root(one)
    return float(np.trace(one) + np.trace(two) - 2 * np.trace(root(middle @ two @ middle)))


def chain_error(process, data, eta=1.0, subspace_noise=False):
    """Propagate the covariance of the reverse chain, every time visited, from noise to images."""
    levels = process.last_level + 1
    clean = [data]
    for _ in range(levels - 1):
        down = pairs(len(clean[-1]))
        clean.append(down @ clean[-1] @ down.T)
    state, level = np.eye(len(clean[-1])), levels - 1
    for visit in visits(process, process.steps):
        size = len(clean[visit.level])
        coarse = pairs(size).T @ pairs(size) if visit.level < levels - 1 else np.eye(size)
        detail = np.eye(size) - coarse
        if visit.level < level:
            down, s = pairs(size), float(process.noise[visit.time])
            noise = s**2 * detail
            if subspace_noise:
                # Subspace Diffusion adds the detail's mean variance in the data.
                variance = np.trace(detail @ clean[visit.level]) / (size // 2)
                noise = noise + float(process.signal[visit.time]) ** 2 * variance * detail
            state, level = down.T @ state @ down + noise, visit.level
        time = torch.tensor([visit.time])
        a, s = float(process.signal[visit.time]), float(process.noise[visit.time])
        mean = a * (coarse + float(process.fading(level, time)) * detail)
        best = clean[level] @ mean.T @ np.linalg.inv(mean @ clean[level] @ mean.T + s**2 * np.eye(size))
        step = process.step(level, visit.time, visit.earlier, eta)
        of_state, of_clean, of_noise = (pair[0] * coarse + pair[1] * detail for pair in step)
        move = of_state + of_clean @ best
        state = move @ state @ move.T + of_noise @ of_noise.T
    return distance(state, data)


# Chain, turns, delta, and the errors of §6 for covariances of length 1 and 4.
TABLE = [
    ("ddpm", [], None, 4.8e-4, 4.5e-4),
    ("attenuated", [300, 600], 1e-3, 1.4e-3, 4.8e-4),
    ("cut", [300, 600], None, 1.0e-3, 6.2e-4),
    ("attenuated", [100, 200], 1e-3, 5.8e-3, 5.3e-4),
    ("cut", [100, 200], None, 1.2e-1, 1.2e-2),
    ("subspace", [100, 200], None, 4.7e-2, 1.2e-2),
    ("attenuated", [150, 350], 1e-2, 1.9e-3, 4.9e-4),
    ("cut", [150, 350], None, 2.3e-2, 2.7e-3),
]


def process_of(turns, delta, steps=1000):
    kind = "none" if delta is None else "geometric"
    return Process(timesteps=steps, turning_points=turns, delta=delta or 1.0, attenuation=kind)


@pytest.mark.parametrize(("name", "turns", "delta", "short", "long"), TABLE)
def test_the_errors_are_those_of_the_reference(name, turns, delta, short, long):
    process = process_of(turns, delta)
    for length, expected in ((1, short), (4, long)):
        found = chain_error(process, covariance(length), subspace_noise=name == "subspace")
        assert found == pytest.approx(expected, rel=0.05), (name, turns, length, found)


def test_attenuation_lets_the_dimensions_go_early_and_buys_nothing_late():
    data = covariance(1)
    early, late = ([chain_error(process_of(t, d), data) for d in (1e-3, None)] for t in ([100, 200], [300, 600]))
    assert early[0] < early[1] / 15
    assert late[0] > late[1]


def test_the_error_falls_with_more_steps_only_where_the_detail_is_attenuated():
    data = covariance(1)

    def errors(delta):
        # The schedule of 1000 steps, cut as finely as there are steps.
        found = []
        for steps in (250, 1000):
            turns = [150 * steps // 1000, 350 * steps // 1000]
            process = Process(
                timesteps=steps,
                beta_start=1e-4 * 1000 / steps,
                beta_end=0.02 * 1000 / steps,
                turning_points=turns,
                delta=delta or 1.0,
                attenuation="none" if delta is None else "geometric",
            )
            found.append(chain_error(process, data))
        return found

    attenuated, cut = errors(1e-2), errors(None)
    # The errors of §6.
    assert attenuated == pytest.approx([2.3e-2, 1.9e-3], rel=0.05)
    # The turns of 250 steps are rounded.
    assert cut == pytest.approx([3.7e-2, 2.3e-2], rel=0.1)
