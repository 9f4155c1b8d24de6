"""GeoD's hot paths against what a user would pick instead, side by side in one run, as ratios.

The rasterizer against a loop over triangles (and against trimesh's ray caster, where it is installed); the volume
renderer against a plain one in the style of NeRF tutorials; the modulated convolution against a weight for every sample
in grouped convolutions. `python benchmarks/geod.py` takes two minutes on two cores.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skimage.draw import polygon
from torch import Tensor
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.turns import seconds, show
from datamodules.worlds import heads
from harness.config.compose import plain
from harness.config.load import load
from lightning_modules.geod.inverse.rasterizer import grid_triangles, rasterize
from networks.cameras import back_project, focal_length, rotation
from networks.gan.generators3d.triplane import TriPlaneGenerator
from networks.gan.generators3d.volume_rendering import cast_rays, march
from networks.gan.stylegan2.layers import binomial_filter, blur, modulated_conv

FAR = 3.825


# The rasterizer.


def turned_mesh(count: int, size: int) -> tuple[Tensor, Tensor]:
    """Return where the vertices of turned heads fall, and their depth."""
    found = heads.render(count, 0, size)
    focal = focal_length(size, heads.FOV)
    points = back_project(torch.from_numpy(found.depth), focal).flatten(1, 2)
    center = torch.tensor([0, 0, heads.CENTRE])
    turn = rotation(0.3 * torch.randn(count, 3, generator=torch.Generator().manual_seed(0)))
    points = (points - center) @ turn.transpose(1, 2) + center
    return points[..., :2] / points[..., 2:] * focal + (size - 1) / 2, points[..., 2]


def by_triangle(pixels: np.ndarray[Any, Any], depth: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    """Rasterize one mesh with a z-buffer, triangle by triangle, each filled by scikit-image's polygon."""
    out = np.full((size, size), FAR, np.float32)
    for corners in grid_triangles(size).numpy():
        (x0, y0), (x1, y1), (x2, y2) = pixels[corners]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        rows, columns = polygon(pixels[corners, 1], pixels[corners, 0], (size, size))
        if not len(rows) or abs(area) < 1e-9:
            continue
        w0 = ((x1 - columns) * (y2 - rows) - (x2 - columns) * (y1 - rows)) / area
        w1 = ((x2 - columns) * (y0 - rows) - (x0 - columns) * (y2 - rows)) / area
        z0, z1, z2 = depth[corners]
        found = 1 / (w0 / z0 + w1 / z1 + (1 - w0 - w1) / z2)
        out[rows, columns] = np.minimum(out[rows, columns], found)
    return out


def by_rays(pixels: Tensor, depth: Tensor, size: int) -> Callable[[], object] | None:
    """Return a cast of the same rays with trimesh, None where it is not installed."""
    try:
        import trimesh
    except ImportError:
        return None
    focal = focal_length(size, heads.FOV)
    places = (pixels - (size - 1) / 2) / focal
    vertices = torch.cat([places * depth[..., None], depth[..., None]], dim=-1).numpy()
    line = (np.arange(size) - (size - 1) / 2) / focal
    towards = np.stack([*np.meshgrid(line, line), np.ones((size, size))], axis=-1).reshape(-1, 3)

    def cast() -> None:
        for one in vertices:
            mesh = trimesh.Trimesh(one, grid_triangles(size).numpy(), process=False)
            mesh.ray.intersects_location(np.zeros_like(towards), towards, multiple_hits=False)

    return cast


def rasterizer(repeats: int, size: int, count: int) -> None:
    """Compare rasterizers on turned heads."""
    pixels, depth = turned_mesh(count, size)
    grown = [pixels.clone().requires_grad_(), depth.clone().requires_grad_()]

    def ours() -> Tensor:
        return rasterize(pixels, depth, size, far=FAR)

    def ours_with_gradient() -> None:
        rasterize(*grown, size, far=FAR).sum().backward()

    def loop() -> list[Any]:
        return [by_triangle(p, d, size) for p, d in zip(pixels.numpy(), depth.numpy(), strict=True)]

    same = np.abs(np.stack(loop()) - ours().numpy()) < 1e-3
    work: dict[str, Callable[[], object]] = {"ours": ours, "ours, with gradients": ours_with_gradient}
    work["a loop over triangles (scikit-image)"] = loop
    rays = by_rays(pixels, depth, size)
    if rays is not None:
        work["rays cast by trimesh"] = rays
    show(
        f"rasterizer, {count} heads of {size} x {size} (same depth at {same.mean():.1%} of pixels)",
        seconds(work, repeats),
        "ours",
    )


# Volume rendering.


def plain_rendering(generator: TriPlaneGenerator, field: Any, camera: Tensor) -> tuple[Tensor, Tensor]:
    """Render as tutorials do: chunks of rays, samples before features, transmittance by a cumulative product."""
    steps, size = generator.options["rays"], generator.neural_resolution
    rays = cast_rays(camera, size)
    images, depths = [], []
    for b in range(len(camera)):
        own = type(field)(field.planes[b : b + 1], field.w[b : b + 1])
        for first in range(0, size * size, 256):
            origins, directions = (part[b, first : first + 256] for part in (rays.origins, rays.directions))
            distances = torch.linspace(steps["ray_start"], steps["ray_end"], steps["depth_samples"]).expand(
                len(origins), -1
            )
            points = origins[:, None] + distances[..., None] * directions[:, None]
            density, colors = generator.query(own, points.reshape(1, -1, 3))
            density = density.reshape(distances.shape)
            colors = colors[0].T.reshape(*distances.shape, -1)
            middle = functional.softplus((density[:, 1:] + density[:, :-1]) / 2 - 1)
            alpha = 1 - torch.exp(-middle * distances.diff(dim=-1))
            passed = torch.cumprod(torch.cat([torch.ones_like(alpha[:, :1]), 1 - alpha + 1e-10], dim=-1), dim=-1)
            weights = alpha * passed[:, :-1]
            images.append((weights[..., None] * (colors[:, 1:] + colors[:, :-1]) / 2).sum(dim=-2))
            where = (distances[:, 1:] + distances[:, :-1]) / 2
            depths.append((weights * where).sum(dim=-1) / weights.sum(dim=-1))
    return torch.cat(images), torch.cat(depths)


def volume_rendering(repeats: int, count: int) -> None:
    """Compare volume renderers on the tri-plane generator of experiment=geod."""
    options = plain(load(["experiment=geod"]))["model"]["triplane"]
    torch.manual_seed(0)
    generator = TriPlaneGenerator(options, 32).eval()
    camera = torch.from_numpy(
        heads.cameras(np.linspace(-0.3, 0.3, count, dtype=np.float32), np.zeros(count, np.float32), 32)
    )
    field = type(generator.field(torch.zeros(1, options["z_dim"])))(
        *(part.detach() for part in generator.field(torch.randn(count, options["z_dim"]), None, "const"))
    )

    def ours() -> tuple[Tensor, Tensor]:
        image, depth, _ = march(lambda x, _: generator.query(field, x), camera, 32, options["rays"], jitter=None)
        return image, depth

    one, other = ours(), plain_rendering(generator, field, camera)
    difference = (one[0].permute(0, 2, 3, 1).reshape(-1, 3) - (other[0] * 2 - 1)).abs().max()
    work: dict[str, Callable[[], object]] = {
        "ours": lambda: sum(part.sum() for part in ours()).backward(),  # type: ignore[union-attr]
        "plain, in chunks of rays": lambda: sum(p.sum() for p in plain_rendering(generator, field, camera)).backward(),  # type: ignore[union-attr]
    }
    times = seconds(work, repeats)
    show(f"volume rendering with gradients, {count} images (largest difference {float(difference):.1e})", times, "ours")
    for name, value in times.items():
        print(f"  {name:<44} {count * 1024 / value:10,.0f} rays/s")


# The modulated convolution.


def grouped(x: Tensor, weight: Tensor, styles: Tensor, kernel: Tensor | None) -> Tensor:
    """Modulate a weight for every sample and convolve in as many groups, as the reference's fused form does."""
    batch = len(x)
    own = weight[None] * styles[:, None, :, None, None]
    own = own * (own.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    x = x.reshape(1, -1, *x.shape[2:])
    if kernel is None:
        out = functional.conv2d(x, own.flatten(0, 1), padding=1, groups=batch)
    else:
        out = functional.conv_transpose2d(x, own.transpose(1, 2).flatten(0, 1), stride=2, groups=batch)
        out = blur(out, kernel, 1, gain=4)
    return out.reshape(batch, -1, *out.shape[2:])


def modulated(repeats: int, batch: int, channels: int, size: int, *, up: bool) -> None:
    """Compare both forms of the modulated convolution, with gradients."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((batch, channels, size, size), (channels, channels, 3, 3), (batch, channels))
    tensors = [torch.randn(*shape, generator=generator).requires_grad_() for shape in shapes]
    kernel = binomial_filter() if up else None
    ours, theirs = modulated_conv(*tensors, kernel=kernel), grouped(*tensors, kernel)
    difference = (ours - theirs).abs().max() / theirs.abs().max()
    work: dict[str, Callable[[], object]] = {
        "ours, input and output scaled": lambda: modulated_conv(*tensors, kernel=kernel).sum().backward(),
        "a weight for every sample, grouped": lambda: grouped(*tensors, kernel).sum().backward(),
    }
    words = f"modulated convolution{' that doubles' if up else ''}, {batch} x {channels} x {size} x {size}"
    show(
        f"{words} (relative difference {float(difference):.1e})",
        seconds(work, repeats),
        "ours, input and output scaled",
    )


def main() -> None:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; least of {repeats} turns")
    rasterizer(max(1, repeats // 2), 32, 16)
    volume_rendering(repeats, 8)
    for batch, channels, size in ((8, 64, 16), (16, 64, 32), (8, 256, 32), (8, 512, 8)):
        modulated(repeats, batch, channels, size, up=False)
        modulated(repeats, batch, channels, size, up=True)


if __name__ == "__main__":
    main()
