"""A depth-map mesh rasterized in plain torch: the depth that another camera sees, differentiable in every vertex.

The z-buffer is filled without gradients: every triangle tests the pixels of a small window, the nearest hit wins. Then
the depth of the winners alone, one triangle a pixel, is computed again with gradients (geod §2.3).
"""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

_EPS = 1e-9


@cache
def grid_triangles(size: int) -> Tensor:
    """Return the corners int64 [2 (size-1)^2, 3] of two triangles in every cell of a grid of pixels, row by row."""
    index = torch.arange(size * size).reshape(size, size)
    upper_left, upper_right = index[:-1, :-1].reshape(-1), index[:-1, 1:].reshape(-1)
    lower_left, lower_right = index[1:, :-1].reshape(-1), index[1:, 1:].reshape(-1)
    first = torch.stack([upper_left, lower_left, upper_right], dim=1)
    second = torch.stack([lower_right, upper_right, lower_left], dim=1)
    return torch.cat([first, second])


def _edges(x: Tensor, y: Tensor, px: Tensor, py: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the doubled signed areas that a point spans with the sides of a triangle [..., 3], and the whole's."""
    x0, x1, x2 = x.unbind(-1)
    y0, y1, y2 = y.unbind(-1)
    w0 = (x1 - px) * (y2 - py) - (x2 - px) * (y1 - py)
    w1 = (x2 - px) * (y0 - py) - (x0 - px) * (y2 - py)
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    return w0, w1, area - w0 - w1, area


@torch.no_grad()
def _winners(pixels: Tensor, depth: Tensor, size: int, window: int) -> Tensor:
    """Return the nearest triangle int64 [b, size * size] of every pixel, -1 where there is none."""
    triangles = grid_triangles(size).to(depth.device)
    batch, count = len(depth), len(triangles)
    x, y, z = (values[:, triangles] for values in (pixels[..., 0], pixels[..., 1], depth))
    left, top = x.amin(-1).ceil(), y.amin(-1).ceil()
    extent = torch.stack([x.amax(-1).floor() - left, y.amax(-1).floor() - top]).clamp(-1, window - 1)
    buffer = torch.full((batch * size * size,), torch.inf, device=depth.device, dtype=depth.dtype)
    winner = torch.full((batch * size * size,), -1, device=depth.device)
    # A triangle is tested once for every pixel of its bounding box, so small ones cost little.
    wide, tall = extent[0].long() + 1, extent[1].long() + 1
    boxes = (wide * tall).reshape(-1)
    which = torch.repeat_interleave(torch.arange(batch * count, device=depth.device), boxes)
    position = torch.arange(len(which), device=depth.device) - (boxes.cumsum(0) - boxes)[which]
    across = wide.reshape(-1)[which]
    px = left.reshape(-1)[which] + position % across
    py = top.reshape(-1)[which] + position // across
    w0, w1, w2, area = _edges(x.reshape(-1, 3)[which], y.reshape(-1, 3)[which], px, py)
    sign = area.sign()
    inside = (torch.stack([w0 * sign, w1 * sign, w2 * sign]).amin(0) >= -1e-4 * area.abs()) & (area.abs() > _EPS)
    inside &= (px >= 0) & (px < size) & (py >= 0) & (py < size)
    which, px, py = which[inside], px[inside].long(), py[inside].long()
    corners = z.reshape(-1, 3)[which]
    hit = area[inside] / (w0[inside] / corners[:, 0] + w1[inside] / corners[:, 1] + w2[inside] / corners[:, 2])
    pixel = (which // count) * size * size + py * size + px
    buffer.scatter_reduce_(0, pixel, hit, "amin")
    nearest = hit == buffer[pixel]
    winner.scatter_reduce_(0, pixel[nearest], which[nearest] % count, "amax")
    return winner.reshape(batch, size * size)


def rasterize(
    pixels: Float[Tensor, "b n 2"], depth: Float[Tensor, "b n"], size: int, *, far: float, window: int = 8
) -> Float[Tensor, "b h w"]:
    """Return the depth of the nearest surface at every pixel, `far` where there is none.

    Args:
        pixels: where the vertices of a grid of `size` x `size` fall in the image, x and y in pixels.
        depth: z of the vertices, in the frame of that camera.
        size: side of the grid and of the image.
        far: the depth of nothing.
        window: pixels in a row that a triangle can cover at most; larger ones are cut and leave holes.
    """
    triangles = grid_triangles(size).to(depth.device)
    winner = _winners(pixels.detach(), depth.detach(), size, window)
    corners = triangles[winner.clamp_min(0)]
    batch = torch.arange(len(depth), device=depth.device)[:, None, None]
    x, y = pixels[batch, corners].unbind(-1)
    z = depth[batch, corners]
    line = torch.arange(size * size, device=depth.device)
    w0, w1, w2, area = _edges(x, y, (line % size).to(x), (line // size).to(y))
    # Where nothing was hit the division must be finite too, or its gradient would be nan.
    is_hit = winner >= 0
    below = torch.where(is_hit, w0 / z[..., 0] + w1 / z[..., 1] + w2 / z[..., 2], 1.0)
    return torch.where(is_hit, area / below, far).reshape(-1, size, size)
