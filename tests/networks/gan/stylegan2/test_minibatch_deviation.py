"""The deviation over groups of samples: by hand, strided and contiguous."""

import pytest
import torch

from networks.gan.stylegan2.minibatch_deviation import minibatch_deviation


def levels(*values):
    return torch.tensor(values)[:, None, None, None].expand(-1, 3, 4, 4)


def of(x, group, grouping):
    maps = minibatch_deviation(x, group, grouping)
    assert maps.shape == (len(x), 1, *x.shape[2:])
    assert torch.equal(maps, maps[..., :1, :1].expand_as(maps))
    return maps[:, 0, 0, 0].tolist()


def test_strided_groups_are_the_reference_s():
    # Groups of four among eight: 0, 2, 4, 6 and 1, 3, 5, 7, both with variance 5.
    assert of(torch.arange(8.0)[:, None, None, None].expand(8, 3, 4, 4), 4, "strided") == pytest.approx([5**0.5] * 8)
    # Groups of two among four: 0 and 2, 1 and 3.
    assert of(levels(0.0, 10.0, 4.0, 10.0), 2, "strided") == pytest.approx([2, 1e-4, 2, 1e-4], abs=1e-6)


def test_contiguous_groups_are_neighbors():
    assert of(levels(0.0, 4.0, 10.0, 10.0), 2, "contiguous") == pytest.approx([2, 2, 1e-4, 1e-4], abs=1e-6)


@pytest.mark.parametrize("grouping", ["strided", "contiguous"])
def test_a_batch_that_groups_do_not_divide_has_smaller_ones(grouping):
    # Six samples in groups of at most four: the greatest common divisor is two.
    x = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert of(x, 4, grouping) == of(x, 2, grouping)
    assert of(x[:3], 4, grouping) == pytest.approx([1e-4] * 3)


def test_it_is_the_mean_of_the_deviations_of_channels_and_pixels():
    x = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = (x[:2].var(dim=0, correction=0) + 1e-8).sqrt().mean()
    assert of(x, 2, "contiguous")[:2] == pytest.approx([expected.item()] * 2)
