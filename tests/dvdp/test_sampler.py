"""The reverse chain: which steps it takes, at which level, with which noise."""

from itertools import pairwise

import pytest
import torch

from common.errors import UserError
from lightning_modules.dvdp.projection import at_level, down, scaled
from lightning_modules.dvdp.sampler import Sampler, visits
from networks.diffusion.generation import image_generators
from tests.dvdp.build import process_of


class Oracle:
    """Knows the images: predicts their exact eps, and notes what it was asked."""

    def __init__(self, process, clean):
        self.process, self.clean, self.calls = process, clean, []

    def __call__(self, x, level, time):
        self.calls.append((level, int(time[0]), x.shape[-1]))
        coarse, fine, noise = self.process.amplitudes(level, time.cpu())
        clean = at_level(self.clean, level)
        return (x - scaled(clean, coarse, fine)) / noise


def draw(sampler, network, count=2, size=16, seed=0, **more):
    return sampler(network, (1, size, size), image_generators(seed, range(count)), **more)


@pytest.mark.parametrize("steps", [3, 7, 50, 1000])
def test_every_turning_point_is_visited_and_none_is_stepped_over(steps):
    # A step across a turning point would take the numbers of another level (§2.4).
    process = process_of()
    found = visits(process, steps)
    assert len(found) == steps
    assert found[0].time == 1000
    assert found[-1].earlier == 0
    assert {150, 350} <= {v.earlier for v in found}
    for visit in found:
        first, last = process.bounds[visit.level : visit.level + 2]
        assert first <= visit.earlier < visit.time <= last
    for one, two in pairwise(found):
        assert one.earlier == two.time


@pytest.mark.parametrize("method", ["ddim", "ancestral"])
def test_the_network_is_asked_at_the_right_level_and_size(method):
    process = process_of()
    oracle = Oracle(process, torch.zeros(2, 1, 16, 16))
    draw(Sampler(process, "eps", None, method=method, steps=20), oracle)
    for level, time, size in oracle.calls:
        assert level == process.level_of(time)
        assert size == 16 >> level
    assert len(oracle.calls) == 20


@pytest.mark.parametrize("method", ["ddim", "ancestral"])
@pytest.mark.parametrize("clip", [True, False])
def test_a_white_image_survives_its_levels(method, clip):
    # A clamp to 1 at level 2, where white is 4, would make it gray (§2.4).
    process, white = process_of(), torch.ones(2, 1, 16, 16)
    found = draw(Sampler(process, "eps", None, method=method, steps=40, clip=clip), Oracle(process, white))
    assert torch.allclose(found, white, atol=1e-4)


def test_the_same_seed_gives_the_same_images_and_the_jumps_their_details():
    # The jump draws fresh noise, even with DDIM (§2.4).
    process = process_of()
    sampler = Sampler(process, "eps", None, steps=12, clip=False)

    def network(x, level, time):
        return 0.5 * x

    one, same, other = draw(sampler, network), draw(sampler, network), draw(sampler, network, seed=1)
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)
    jumps = [draw(sampler, network, jump_generators=image_generators(seed, range(2))) for seed in (5, 6)]
    # Nothing but the details changes: the network treats pixels alike, so the coarse image is the same.
    first, second = (down(down(image)) for image in jumps)
    assert (first - second).norm() < 1e-4 * first.norm()
    assert (jumps[0] - jumps[1]).norm() > 0.1 * jumps[0].norm()


def test_ancestral_adds_noise_and_ddim_none():
    process = process_of([])
    ends = {}
    for method in ("ddim", "ancestral"):
        sampler = Sampler(process, "eps", None, method=method, steps=10, clip=False)
        calls = [list(sampler.chain(lambda x, level, time: 0 * x, (1, 8, 8), image_generators(0, [0])))]
        ends[method] = calls[0][-1].x / calls[0][0].x
    # Without a prediction DDIM only rescales its first noise.
    assert ends["ddim"].std() < 1e-3 * ends["ddim"].abs().mean()
    assert ends["ancestral"].std() > 0.1 * ends["ancestral"].abs().mean()


@pytest.mark.parametrize("steps", [0, 2, 1001])
def test_steps_that_cannot_be_shared_out_are_refused(steps):
    with pytest.raises(UserError, match="should be 3"):
        visits(process_of(), steps)


def test_every_step_is_told():
    told = []
    process = process_of()
    draw(Sampler(process, "eps", None, steps=9), lambda x, level, time: x, on_step=lambda: told.append(1))
    assert len(told) == 9
