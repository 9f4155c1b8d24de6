"""The link regularizer on a generator of which all is known, and on StyleGAN2."""

import pytest
import torch

from lightning_modules.linkgan.axes import axes_mask
from lightning_modules.linkgan.generators import GeneratedImages, broadcast
from lightning_modules.linkgan.latents import draw_link_batch, drawn_links
from lightning_modules.linkgan.regions import RegionMask
from lightning_modules.linkgan.regularizer import change, link_loss, link_terms, masked_mean, perturbation_strength
from tests.linkgan.build import SIDE, Halves, module_of, noise_of, options_of

CPU = torch.device("cpu")


def link_options(**changes):
    return options_of()["link"] | changes


def terms_of(generator, region, options=None, axes=slice(0, 2), count=4, strength=1.0):
    batch = draw_link_batch(noise_of(), generator, count, ["one"], SIDE, CPU)
    mask = RegionMask(region, SIDE, "region")
    return link_terms(
        generator,
        batch,
        {"one": axes_mask(axes, generator.w_dim)},
        lambda _, images: mask(images, None),
        options or link_options(),
        strength=strength,
    )


def noisy_module():
    module = module_of()
    for name, parameter in module.networks.generator.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(1.0)
    return module


def test_without_perturbation_the_loss_is_exactly_zero_for_a_generator_with_noise():
    generator = noisy_module().networks.generator
    terms = terms_of(generator, "left_half", axes=slice(0, 4), strength=0.0)
    assert float(terms.inside) == 0
    assert float(terms.outside) == 0
    # Noise of its own would change the image: the test sees a generator that has some.
    w = generator.to_w(torch.ones(1, 8))
    one, other = (generator.synthesize(broadcast(w, generator.num_ws), "random").image for _ in range(2))
    assert float((one - other).abs().max()) > 0.1


def test_a_region_is_kept_from_the_other_axes_and_the_rest_from_its_own():
    right, wrong = terms_of(Halves(), "left_half"), terms_of(Halves(), "right_half")
    assert float(right.inside) == 0
    assert float(right.outside) == 0
    assert float(wrong.inside) > 0.1
    assert float(wrong.outside) > 0.1
    # With the region right and the axes the other half's, both are wrong as well.
    assert float(terms_of(Halves(), "left_half", axes=slice(2, 8)).inside) > 0.1


def test_w_is_perturbed_once_mapped_and_alike_in_all_layers():
    generator = Halves()
    terms_of(generator, "left_half")
    assert generator.mapped == 1
    assert len(generator.seen) == 3
    (anchor, _), (others, _), (linked, _) = generator.seen
    for ws, moved in ((others, slice(2, 8)), (linked, slice(0, 2))):
        assert torch.equal(ws, ws[:, :1].expand_as(ws))
        difference = (ws - anchor)[:, 0]
        still = torch.ones(8, dtype=torch.bool)
        still[moved] = False
        assert (difference[:, moved] != 0).all()
        assert not difference[:, still].any()
    assert all(noise is generator.seen[0][1] for _, noise in generator.seen)


@pytest.mark.parametrize("detached", [False, True])
def test_gradients_reach_mapping_and_synthesis_and_the_anchor_unless_it_is_detached(detached):
    generator = module_of().networks.generator
    options = link_options(anchor_detach=detached)
    images = []
    original = generator.synthesize

    def synthesize(*arguments):
        found = original(*arguments)
        found.image.retain_grad()
        images.append(found.image)
        return found

    generator.synthesize = synthesize
    terms = terms_of(generator, "left_half", options, axes=slice(0, 4))
    link_loss(terms, options, 1).backward()
    for part in (generator.mapping.fc0.weight, generator.synthesis.b4.conv1.weight, generator.synthesis.b16.torgb.bias):
        # A bias of the image cancels where both images have it.
        is_bias = part is generator.synthesis.b16.torgb.bias
        assert part.grad.abs().sum() > 0 or (is_bias and not detached)
    assert (images[0].grad is None) == detached
    assert images[1].grad.abs().sum() > 0


def test_the_lazy_gain_is_the_interval_and_weights_are_the_papers_two():
    terms = terms_of(Halves(), "right_half")
    plain = link_loss(terms, link_options(interval=8, lazy_gain=False), 1)
    assert float(plain) == pytest.approx(15 * float(terms.inside) + 15 * float(terms.outside))
    assert float(link_loss(terms, link_options(interval=8), 1)) == pytest.approx(8 * float(plain))
    only = link_loss(terms, link_options(interval=1, lambda_in=2.0, lambda_out=0.0), 1)
    assert float(only) == pytest.approx(2 * float(terms.inside))


def test_of_links_that_are_drawn_the_loss_stands_for_all():
    terms, links = terms_of(Halves(), "right_half"), ["a", "b", "c", "d"]
    whole = link_loss(terms, link_options(), 4)
    assert float(link_loss(terms, link_options(links_per_step=1), 4)) == pytest.approx(4 * float(whole))
    drawn = [drawn_links(noise_of(step), links, 1) for step in range(32)]
    assert {name for names in drawn for name in names} == set(links)
    assert all(len(names) == 1 for names in drawn)
    assert drawn_links(noise_of(), links, None) == links


def test_means_are_over_the_pixels_of_the_mask_and_all_channels():
    difference = torch.zeros(2, 3, 4, 4)
    difference[0, :, :2] = 2.0
    mask = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    mask[:, :, :1] = True
    assert masked_mean(difference, mask).tolist() == [4.0, 0.0]
    assert masked_mean(difference, ~mask).tolist() == pytest.approx([4.0 / 3, 0.0])
    assert masked_mean(difference, torch.zeros_like(mask)).tolist() == [0.0, 0.0]


def test_images_before_super_resolution_count_under_the_same_mask():
    still = GeneratedImages(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 4, 4))
    moved = GeneratedImages(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 4, 4).index_fill_(3, torch.tensor([0, 1]), 2.0))
    left = torch.zeros(1, 1, 8, 8, dtype=torch.bool).index_fill_(3, torch.arange(4), True)
    assert float(change(moved, still, left)) == 4.0
    assert float(change(moved, still, ~left)) == 0.0


def test_a_relative_perturbation_follows_the_deviation_of_each_axis():
    variance = torch.tensor([1.0, 4.0])
    assert perturbation_strength(link_options(alpha=0.5), variance) == 0.5
    assert perturbation_strength(link_options(alpha=0.5, alpha_mode="relative"), variance).tolist() == [0.5, 1.0]


def test_an_object_that_grows_is_outside_of_neither_mask_in_union():
    generator = Halves()

    def bright(_, images):
        return images[:, :1] > 0

    axes = {"one": axes_mask(slice(0, 2), 8)}
    batch = draw_link_batch(noise_of(), generator, 16, ["one"], SIDE, CPU)
    outside = {
        mode: float(link_terms(generator, batch, axes, bright, link_options(mask_mode=mode), strength=1.0).outside)
        for mode in ("anchor", "union")
    }
    assert 0 < outside["union"] < outside["anchor"]


def test_the_control_moves_the_region_alike_for_all_samples():
    generator, options = Halves(), link_options(random_mask=True)
    found = []
    for step in range(8):
        batch = draw_link_batch(noise_of(step), generator, 4, ["one"], SIDE, CPU)
        mask = RegionMask("left_half", SIDE, "region")
        found.append(
            float(
                link_terms(
                    generator,
                    batch,
                    {"one": axes_mask(slice(0, 2), 8)},
                    lambda _, images, mask=mask: mask(images, None),
                    options,
                    strength=1.0,
                ).inside
            )
        )
    # A region that lies anywhere is never that of the axes, but by chance.
    assert sum(value > 0.01 for value in found) >= 6
