"""A generated image depends on its index and the seed alone."""

import pytest
import torch

from networks.diffusion.conditions import Conditions
from networks.diffusion.generation import generate_images, image_generators, image_noise, network_calls
from networks.diffusion.guidance import guided
from networks.diffusion.samplers import build_sampler
from tests.networks.diffusion.build import conditioned_of, randn, schedule_of

TOKENS = randn(7, 3, 6)


def images(name="ddim", indices=range(7), batch=7, seed=0, **options):
    network = conditioned_of()

    def predict(chosen):
        return guided(network, Conditions(tokens=TOKENS[list(chosen)]), weight=2.0)

    sampler = build_sampler(name, schedule_of(), "v", 3)
    return list(generate_images(sampler, predict, (3, 8, 8), indices, batch=batch, seed=seed, **options))


@pytest.mark.parametrize("name", ["ddim", "ddpm"])
def test_batch_size_and_process_change_no_image(name):
    whole = torch.cat(images(name))
    batches = images(name, batch=3)
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert torch.allclose(torch.cat(batches), whole, atol=1e-4)
    for rank in (0, 1):
        shared = torch.cat(images(name, range(rank, 7, 2), batch=2))
        assert torch.allclose(shared, whole[rank::2], atol=1e-4)
    assert not torch.allclose(torch.cat(images(name, seed=1)), whole, atol=0.1)
    assert not torch.allclose(whole[0], whole[1], atol=0.1)


def test_noise_is_drawn_for_each_image():
    noise = image_noise((2, 4, 4), image_generators(3, [5, 0]))
    assert torch.equal(noise[0], torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(3 * 1_000_003 + 5)))
    assert torch.equal(noise[1], image_noise((2, 4, 4), image_generators(3, [0]))[0])
    assert image_noise((1, 64, 64), image_generators(0, range(8))).var().item() == pytest.approx(1, abs=0.03)


def test_progress_counts_every_network_call():
    reported = []
    images(batch=3, on_step=lambda: reported.append(1))
    assert len(reported) == network_calls(build_sampler("ddim", schedule_of(), "v", 3), 7, 3) == 9
