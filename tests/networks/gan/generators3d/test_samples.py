"""Latents and samples by seed and index."""

import torch

from lightning_modules.generated_images import rank_share
from networks.cameras import PoseOptions, orbit_cameras
from networks.gan.generators3d.samples import Samples3D
from networks.gan.latents import sample_latents
from networks.seeds import stream_seed
from tests.networks.gan.generators3d.test_interface import generator_of

POSES = PoseOptions(kind="gaussian", yaw=0.3, pitch=0.15, radius=2.775, fov=18.837)


def samples_of(seed=3, poses=POSES, labels=None):
    generator = generator_of("triplane").eval()
    return Samples3D(generator, poses, 16, labels=labels, seed=seed, device=torch.device("cpu"))


def test_a_latent_does_not_depend_on_what_else_is_asked_for():
    # More and fewer numbers than torch draws in one go.
    for z_dim in (8, 40):
        every = sample_latents(5, range(7), z_dim)
        assert torch.equal(sample_latents(5, [4, 1], z_dim), every[[4, 1]])
        assert not torch.equal(every[0], every[1])
        assert not torch.equal(sample_latents(6, [0], z_dim), every[:1])
    assert sample_latents(5, [], 8).shape == (0, 8)


def test_an_image_depends_on_its_seed_and_index_alone():
    samples = samples_of()
    every = torch.cat(list(samples.images(range(6))))
    for batch in (1, 4):
        assert torch.allclose(torch.cat(list(samples.images(range(6), batch=batch))), every, atol=1e-5)
    assert [len(images) for images in samples.images(range(6), batch=4)] == [4, 2]
    # Two processes' shares, put together.
    for rank in range(2):
        own = torch.cat(list(samples.images(rank_share(range(6), rank, 2))))
        assert torch.allclose(own, every[rank::2], atol=1e-5)
    other = torch.cat(list(samples_of(seed=4).images(range(6))))
    assert not torch.allclose(other, every, atol=0.01)
    assert list(samples.images([])) == []


def test_cameras_are_drawn_as_in_training():
    samples = samples_of()
    assert torch.equal(samples.cameras([2, 0]), samples.cameras(range(3))[[2, 0]])
    labels = orbit_cameras(torch.linspace(-1, 1, 5), torch.zeros(5), POSES, 16)
    labelled = samples_of(poses=POSES | {"kind": "labels"}, labels=labels).cameras(range(9))
    assert {tuple(row) for row in labelled.tolist()} <= {tuple(row) for row in labels.tolist()}


def test_streams_of_neighboring_seeds_are_apart():
    assert stream_seed(2, 1) == 2_000_007
