"""StyleGAN2 in plain torch: against the definitions, the reference's names and sizes, and shared noise."""

import math

import pytest
import torch
from torch.nn import functional

from networks.gan.stylegan2.discriminator import Discriminator
from networks.gan.stylegan2.generator import MappingNetwork, StyleGAN2
from networks.gan.stylegan2.layers import FullyConnected, binomial_filter, blur, double, leaky, modulated_conv
from networks.gan.stylegan2.noise import draw_noise
from networks.noise import BatchNoise


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def weights_of_every_sample(x, weight, styles, *, demodulate=True, kernel=None):
    """Modulate the weights themselves, a group of convolutions for every sample."""
    batch, channels = x.shape[:2]
    own = weight[None] * styles[:, None, :, None, None]
    if demodulate:
        own = own * (own.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    x = x.reshape(1, batch * channels, *x.shape[2:])
    if kernel is None:
        out = functional.conv2d(x, own.flatten(0, 1), padding=weight.shape[-1] // 2, groups=batch)
    else:
        out = functional.conv_transpose2d(x, own.transpose(1, 2).flatten(0, 1), stride=2, groups=batch)
        out = blur(out, kernel, 1, gain=4)
    return out.reshape(batch, -1, *out.shape[2:])


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize(("up", "side"), [(False, 1), (False, 3), (True, 3)])
def test_scaling_in_and_out_is_scaling_the_weights(demodulate, up, side):
    x, weight, styles = drawn(3, 5, 8, 8), drawn(6, 5, side, side, seed=1), drawn(3, 5, seed=2)
    kernel = binomial_filter() if up else None
    found = modulated_conv(x, weight, styles, demodulate=demodulate, kernel=kernel)
    expected = weights_of_every_sample(x, weight, styles, demodulate=demodulate, kernel=kernel)
    assert found.shape == (3, 6, 16, 16) if up else (3, 6, 8, 8)
    assert torch.allclose(found, expected, atol=1e-5, rtol=1e-5)


def test_demodulated_outputs_have_deviation_one():
    x, weight, styles = drawn(4, 64, 16, 16), drawn(32, 64, 3, 3, seed=1), 3 * drawn(4, 64, seed=2)
    found = modulated_conv(x, weight, styles)[:, :, 2:-2, 2:-2]
    assert found.std(dim=(1, 2, 3)).tolist() == pytest.approx([1] * 4, rel=0.1)


def test_doubling_is_zeros_between_pixels_and_a_filter():
    x, kernel = drawn(2, 3, 5, 5), binomial_filter()
    sparse = torch.zeros(2, 3, 10, 10)
    sparse[:, :, ::2, ::2] = x
    padded = functional.pad(sparse, (2, 1, 2, 1))
    expected = functional.conv2d(padded, (kernel * 4).expand(3, 1, 4, 4), groups=3)
    assert torch.allclose(double(x, kernel), expected, atol=1e-6)
    assert double(torch.ones(1, 1, 8, 8), kernel)[:, :, 2:-2, 2:-2].sub(1).abs().max() < 1e-6


def test_a_convolution_that_doubles_is_a_true_convolution_of_zeros_between_pixels():
    x, weight, kernel = drawn(1, 2, 6, 6), drawn(3, 2, 3, 3, seed=1), binomial_filter()
    sparse = torch.zeros(1, 2, 12, 12)
    sparse[:, :, ::2, ::2] = x
    padded = functional.pad(sparse, (2, 2, 2, 2))
    convolved = functional.conv2d(padded, weight.flip(2, 3))
    expected = functional.conv2d(functional.pad(convolved, (1, 0, 1, 0)), (kernel * 4).expand(3, 1, 4, 4), groups=3)
    found = modulated_conv(x, weight, torch.ones(1, 2), demodulate=False, kernel=kernel)
    assert torch.allclose(found[..., :11, :11], expected[..., :11, :11], atol=1e-4)


def test_layers_scale_their_weights_when_used():
    layer = FullyConnected(256, 64, is_active=True, lr_multiplier=0.01)
    assert layer.weight.std().item() == pytest.approx(100, rel=0.05)
    x = drawn(512, 256)
    expected = functional.leaky_relu(x @ layer.weight.T * (0.01 / 16), 0.2) * math.sqrt(2)
    assert torch.allclose(layer(x), expected, atol=1e-4)
    assert leaky(torch.tensor([500.0]), 0.5, 256) == 128


def test_names_and_sizes_are_those_of_the_reference():
    generator = StyleGAN2(512, 0, 512, 256, 3)
    shapes = {name: tuple(value.shape) for name, value in generator.state_dict().items()}
    expected = {
        "mapping.fc0.weight": (512, 512),
        "mapping.fc7.bias": (512,),
        "mapping.w_avg": (512,),
        "synthesis.b4.const": (512, 4, 4),
        "synthesis.b4.resample_filter": (4, 4),
        "synthesis.b4.conv1.weight": (512, 512, 3, 3),
        "synthesis.b4.conv1.noise_const": (4, 4),
        "synthesis.b4.conv1.noise_strength": (),
        "synthesis.b4.conv1.resample_filter": (4, 4),
        "synthesis.b4.torgb.weight": (3, 512, 1, 1),
        "synthesis.b64.conv0.affine.weight": (512, 512),
        "synthesis.b128.conv0.weight": (256, 512, 3, 3),
        "synthesis.b256.conv1.bias": (128,),
        "synthesis.b256.torgb.affine.bias": (128,),
    }
    assert {name: shapes.get(name) for name in expected} == expected
    assert not any(name.startswith("synthesis.b4.conv0") for name in shapes)
    assert generator.synthesis.num_ws == 14
    critic = {name: tuple(value.shape) for name, value in Discriminator(256, 3, c_dim=25).state_dict().items()}
    expected = {
        "b256.fromrgb.weight": (128, 3, 1, 1),
        "b256.conv0.weight": (128, 128, 3, 3),
        "b256.conv1.weight": (256, 128, 3, 3),
        "b256.skip.weight": (256, 128, 1, 1),
        "b8.conv1.bias": (512,),
        "b4.conv.weight": (512, 513, 3, 3),
        "b4.fc.weight": (512, 8192),
        "b4.out.weight": (512, 512),
        "mapping.embed.weight": (512, 25),
        "mapping.fc0.weight": (512, 512),
    }
    assert {name: critic.get(name) for name in expected} == expected
    assert "b256.skip.bias" not in critic
    assert "mapping.w_avg" not in critic


def test_images_depend_on_z_and_noise():
    torch.manual_seed(0)
    generator = StyleGAN2(8, 0, 8, 16, 3, mapping_layers=2, channel_base=128, channel_max=16)
    z = drawn(4, 8)
    first, second = generator(z, noise="const"), generator(z, noise="const")
    assert torch.equal(first, second)
    assert first.shape == (4, 3, 16, 16)
    assert not torch.allclose(first[0], first[1], atol=0.01)
    # Noise begins with strength 0.
    assert torch.equal(generator(z, noise="random"), first)
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            torch.nn.init.ones_(parameter)
    assert not torch.equal(generator(z, noise="random"), generator(z, noise="random"))
    assert not torch.equal(generator(z, noise="none"), generator(z, noise="const"))


def test_w_follows_its_average_and_is_truncated_towards_it():
    torch.manual_seed(0)
    mapping = MappingNetwork(8, 0, 6, layers=2)
    w = mapping(drawn(64, 8))
    for _ in range(3000):
        mapping.follow(w)
    assert torch.allclose(mapping.w_avg, w.mean(dim=0), atol=0.01)
    half = mapping(drawn(64, 8), truncation=0.5)
    assert torch.allclose(half - mapping.w_avg, (w - mapping.w_avg) / 2, atol=1e-5)


def test_activations_are_clamped():
    torch.manual_seed(0)
    generator = StyleGAN2(8, 0, 8, 8, 3, channel_base=64, channel_max=16, conv_clamp=0.01)
    assert generator(drawn(2, 8)).abs().max() <= 0.04 + 1e-6
    critic = Discriminator(8, 3, channel_base=64, channel_max=16, conv_clamp=0.01)
    assert critic(100 * drawn(4, 3, 8, 8)).isfinite().all()


def test_the_discriminator_takes_any_batch_and_its_condition():
    torch.manual_seed(0)
    critic, image = Discriminator(16, 3, channel_base=128, channel_max=16), drawn(8, 3, 16, 16)
    assert critic(image).shape == (8,)
    assert critic(image[:3]).shape == (3,)
    conditioned = Discriminator(16, 3, c_dim=25, channel_base=128, channel_max=16)
    assert not torch.allclose(conditioned(image, drawn(8, 25)), conditioned(image, drawn(8, 25, seed=1)))


def test_the_discriminator_sees_how_much_its_samples_differ():
    torch.manual_seed(0)
    image = drawn(4, 3, 16, 16)
    same = image[:1].expand(4, -1, -1, -1)
    for grouping in ("strided", "contiguous"):
        critic = Discriminator(16, 3, channel_base=128, channel_max=16, grouping=grouping)
        assert not torch.allclose(critic(image)[0], critic(same)[0], atol=1e-4)


# Noise as tensors.


def noisy_generator(**options):
    torch.manual_seed(0)
    generator = StyleGAN2(8, 0, 8, 16, 3, mapping_layers=2, channel_base=128, channel_max=16, **options)
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            torch.nn.init.ones_(parameter)
    return generator


def test_passes_that_share_noise_differ_by_their_latents_alone():
    generator = noisy_generator()
    noise, z = draw_noise(generator.synthesis.noise_sides, 2, BatchNoise(0, 0)), drawn(2, 8)
    assert torch.equal(generator(z, noise=noise), generator(z, noise=noise))
    assert not torch.allclose(generator(z, noise=noise), generator(drawn(2, 8, seed=1), noise=noise), atol=0.01)
    other = draw_noise(generator.synthesis.noise_sides, 2, BatchNoise(0, 1))
    assert not torch.allclose(generator(z, noise=noise), generator(z, noise=other), atol=0.01)


def test_one_noise_serves_a_batch_as_the_kept_one_does():
    generator, z = noisy_generator(), drawn(3, 8)
    kept = {name: value for name, value in generator.named_buffers() if name.endswith("noise_const")}
    sides = {int(name.split(".")[1][1:]) for name in kept}
    names = [f"synthesis.b{side}.conv{k}.noise_const" for side in sorted(sides) for k in (0, 1)]
    noise = [kept[name][None, None] for name in names if name in kept]
    assert [one.shape[-1] for one in noise] == generator.synthesis.noise_sides == [4, 8, 8, 16, 16]
    assert torch.equal(generator(z, noise=noise), generator(z, noise="const"))
    with pytest.raises(ValueError, match="noise has 4 tensors, should have 5"):
        generator(z, noise=noise[1:])


def test_drawn_noise_depends_on_the_batch_alone():
    first, second = (draw_noise([4, 8], 6, BatchNoise(3, 0)) for _ in range(2))
    assert [tuple(one.shape) for one in first] == [(6, 1, 4, 4), (6, 1, 8, 8)]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert first[1].std().item() == pytest.approx(1, abs=0.15)
