"""The tri-plane generator and pi-GAN's: one interface, EG3D's names, and depth that agrees with the density."""

import pytest
import torch
from omegaconf import OmegaConf

from common.errors import UserError
from networks.gan.generators3d.pigan import FilmSiren, PiGAN
from networks.gan.generators3d.triplane import SuperResolution, TriPlaneGenerator
from networks.gan.stylegan2.noise import draw_noise
from networks.noise import BatchNoise
from tests.networks.gan.generators3d.test_volume_rendering import camera

RAYS = {
    "ray_start": 2.2,
    "ray_end": 3.45,
    "depth_samples": 8,
    "importance_samples": 0,
    "density_unit": 1.0,
    "background": 0.0,
}
TRIPLANE = {
    "z_dim": 8,
    "w_dim": 8,
    "mapping_layers": 2,
    "channel_base": 128,
    "channel_max": 16,
    "conv_clamp": None,
    "pose_conditioned": False,
    "plane_size": 16,
    "plane_channels": 4,
    "decoder_width": 8,
    "decoder_output_dim": 3,
    "rays": RAYS,
    "box_warp": 1.2,
    "neural_resolution": 16,
    "superresolution": False,
}
PIGAN = {
    "z_dim": 8,
    "width": 16,
    "layers": 3,
    "rays": RAYS,
    "box_warp": 1.2,
    "density_noise": 0.0,
    "noise_fade_steps": 0,
}


def generator_of(kind, **changes):
    torch.manual_seed(0)
    if kind == "triplane":
        return TriPlaneGenerator(TRIPLANE | changes, 16)
    return PiGAN(PIGAN | changes, 16)


def z_of(count=2):
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", ["triplane", "pigan"])
def test_one_interface(kind):
    generator = generator_of(kind, rays=RAYS | {"importance_samples": 4})
    rendering = generator(z_of(), camera(0.2, 2))
    assert rendering.image.shape == (2, 3, 16, 16)
    assert rendering.depth.shape == rendering.weight.shape == (2, 16, 16)
    assert rendering.depth.min() > 2
    assert rendering.depth.max() < 3.45
    assert 0 <= rendering.weight.min() <= rendering.weight.max() <= 1
    assert generator.z_dim == 8
    assert generator.box_warp == 1.2
    # Depth carries gradients to every weight that shapes the scene.
    rendering.depth.sum().backward()
    named = dict(generator.named_parameters())
    assert all(p.grad is not None for name, p in named.items() if "colour" not in name)


@pytest.mark.parametrize("kind", ["triplane", "pigan"])
def test_without_jitter_there_is_no_noise_and_with_it_there_is(kind):
    generator = generator_of(kind).eval()
    still = [generator(z_of(), camera(0, 2)).depth for _ in range(2)]
    assert torch.equal(*still)
    drawn = [generator(z_of(), camera(0, 2), jitter=BatchNoise(0, step)).depth for step in (0, 0, 1)]
    assert torch.equal(*drawn[:2])
    assert not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], still[0])


@pytest.mark.parametrize("kind", ["triplane", "pigan"])
def test_a_scene_is_the_same_from_every_side(kind):
    generator = generator_of(kind, rays=RAYS | {"depth_samples": 64}).eval()
    field = generator.field(z_of(1), camera(0), "const")
    points = torch.rand(1, 50, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    # What is at a point does not depend on what else is asked for.
    alone = torch.cat([generator.query(field, part)[0] for part in points.split(7, dim=1)], dim=1)
    assert torch.allclose(generator.query(field, points)[0], alone, atol=1e-5)
    front, side = (generator.render(field, camera(yaw), jitter=None) for yaw in (0.0, 0.5))
    assert not torch.allclose(front.depth, side.depth, atol=1e-3)
    again = generator.render(field, camera(0.0), jitter=None)
    assert torch.equal(front.image, again.image)


def test_names_are_those_of_eg3d():
    options = TRIPLANE | {
        "z_dim": 512,
        "w_dim": 512,
        "channel_base": 32768,
        "channel_max": 512,
        "pose_conditioned": True,
        "plane_size": 256,
        "plane_channels": 32,
        "decoder_width": 64,
        "decoder_output_dim": 32,
        "neural_resolution": 64,
        "superresolution": True,
    }
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in TriPlaneGenerator(options, 256).state_dict().items()}
    expected = {
        "backbone.mapping.embed.weight": (512, 25),
        "backbone.mapping.fc0.weight": (512, 1024),
        "backbone.mapping.fc1.weight": (512, 512),
        "backbone.mapping.w_avg": (512,),
        "backbone.synthesis.b4.const": (512, 4, 4),
        "backbone.synthesis.b256.torgb.weight": (96, 128, 1, 1),
        "decoder.net.0.weight": (64, 32),
        "decoder.net.2.bias": (33,),
        "superresolution.block0.conv0.weight": (128, 32, 3, 3),
        "superresolution.block0.torgb.weight": (3, 128, 1, 1),
        "superresolution.block1.conv0.weight": (64, 128, 3, 3),
        "superresolution.block1.resample_filter": (4, 4),
        "superresolution.resample_filter": (4, 4),
    }
    assert {name: shapes.get(name) for name in expected} == expected


@pytest.mark.parametrize("kind", ["triplane", "pigan"])
def test_depth_is_single_precision_under_autocast(kind):
    generator = generator_of(kind).eval()
    plain = generator(z_of(), camera(0.1, 2))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = generator(z_of(), camera(0.1, 2))
    assert mixed.depth.dtype == mixed.image.dtype == torch.float32
    assert (mixed.depth - plain.depth).abs().max() < 0.05


@pytest.mark.parametrize(("size", "start"), [(256, 128), (512, 128)])
def test_super_resolution_starts_at_128_pixels(size, start):
    torch.manual_seed(0)
    network = SuperResolution(8, size, 8, None)
    assert network.start == start
    assert network(torch.randn(1, 8, 64, 64), torch.randn(1, 8)).shape == (1, 3, size, size)


def test_the_planes_see_xy_xz_and_zx():
    generator = generator_of("triplane")
    field = generator.field(z_of(1), camera(), "const")
    planes = torch.zeros_like(field.planes)
    features = []
    generator.decoder.forward = lambda x: (x[:, 0], x)
    line = torch.linspace(-1, 1, 17)[1:] - 1 / 16
    for place in range(3):
        planes.zero_()
        # Each plane holds its own column coordinate, so what is read says which axis that is.
        planes[:, place] = line
        point = torch.tensor([[[0.1, 0.2, 0.3]]])
        features.append(3 * generator.query(field._replace(planes=planes), point)[0].item() * 0.6)
    assert features == pytest.approx([0.1, 0.1, 0.3], abs=1e-4)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="neural_resolution is 8, images are 16"):
        generator_of("triplane", neural_resolution=8)
    with pytest.raises(UserError, match="128 pixels"):
        generator_of("triplane", superresolution=True)


def test_film_layers_modulate_frequency_and_phase():
    torch.manual_seed(0)
    layer = FilmSiren(3, 5)
    x, frequency, phase = torch.randn(2, 4, 3), torch.randn(2, 5), torch.randn(2, 5)
    expected = torch.sin(frequency[:, None] * layer.layer(x) + phase[:, None])
    assert torch.equal(layer(x, frequency, phase), expected)
    assert FilmSiren(3, 50, is_first=True).layer.weight.abs().max() <= 1 / 3
    assert FilmSiren(256, 50).layer.weight.abs().max() <= (6 / 256) ** 0.5 / 25


def test_noise_on_densities_fades_out():
    generator = generator_of("pigan", density_noise=1.0, noise_fade_steps=4)
    strengths = []
    for _ in range(6):
        strengths.append(generator._noise())
        generator(z_of(), camera(0, 2))
    assert strengths == pytest.approx([1, 0.75, 0.5, 0.25, 0, 0])
    assert generator.eval()(z_of(), camera(0, 2)).image.isfinite().all()
    assert int(generator.calls) == 6


def test_the_paper_scale_file_is_pi_gans_curriculum():
    conf = OmegaConf.load("conf/model/geod_pigan.yaml").pigan
    assert (conf.width, conf.layers, conf.rays.depth_samples, conf.rays.importance_samples) == (256, 8, 12, 12)
    assert (conf.rays.ray_start, conf.rays.ray_end, conf.box_warp) == (0.88, 1.12, 0.24)


def test_scenes_can_share_the_noise_of_their_backbone():
    generator = generator_of("triplane").eval()
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            torch.nn.init.ones_(parameter)
    sides = generator.backbone.synthesis.noise_sides
    noise, other = (draw_noise(sides, 2, BatchNoise(seed, 0)) for seed in (0, 1))
    first = generator(z_of(), camera(0.1, 2), noise=noise)
    assert torch.equal(generator(z_of(), camera(0.1, 2), noise=noise).image, first.image)
    assert not torch.allclose(generator(z_of(), camera(0.1, 2), noise=other).image, first.image, atol=1e-4)
