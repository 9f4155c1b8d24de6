"""What the tests of image generators share: distances, shares of processes, and sheets of images."""

import numpy as np
import pytest
import torch

from common.errors import UserError
from lightning_modules.generated_images import build_distances, image_grid, rank_share

OPTIONS = {"samples": 8, "features": None, "inception": None, "kid_subset": 4}


def test_distances_are_built_from_the_options():
    distances = build_distances(3, 16, OPTIONS)
    assert list(distances.metrics) == ["psd_error"]
    with pytest.raises(UserError, match=r"evaluation.inception: no file none.pth"):
        build_distances(3, 16, OPTIONS | {"inception": "none.pth"})


def test_shares_are_disjoint_and_whole():
    items = list("abcdefg")
    shares = [rank_share(items, rank, 3) for rank in range(3)]
    assert shares == [["a", "d", "g"], ["b", "e"], ["c", "f"]]
    assert rank_share(range(0, 10, 4), 1, 2) == range(4, 8, 8)
    assert list(rank_share(range(2), 3, 4)) == []


def test_a_grid_has_rows_in_order_with_white_lines_between():
    low, high = -torch.ones(2, 1, 4, 4), torch.ones(2, 1, 4, 4)
    picture = image_grid([low.expand(-1, 3, -1, -1), high.expand(-1, 3, -1, -1)])
    assert picture.dtype == np.uint8
    assert picture.shape == (2 * 6 + 2, 2 * 6 + 2, 3)
    assert (picture[2:6, 2:6] == 0).all()
    assert (picture[2:6, 6:8] == 255).all()
    assert (picture[8:12, 2:12] == 255).all()
    # Values outside -1..1 are clipped, gray images get three channels.
    assert image_grid(5 * high, columns=1).shape == (14, 8, 3)
    assert image_grid(0 * high)[3, 3].tolist() == [128] * 3


def test_small_images_are_enlarged_without_smoothing():
    image = torch.tensor([[-1.0, 1.0], [1.0, -1.0]]).expand(1, 3, 2, 2)
    picture = image_grid([image, torch.zeros(1, 3, 4, 4)], side=8)
    assert picture.shape == (22, 12, 3)
    assert (picture[2:6, 2:6] == 0).all()
    assert (picture[2:6, 6:10] == 255).all()
