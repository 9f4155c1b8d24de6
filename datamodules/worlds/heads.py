"""The world of heads: symmetric faces as height fields, lit and turned before a camera (geod §3.1).

A head is a canonical depth map over (u, v), its half image being -1..1: a background plane and before it a shape of one
of several families, all with much the same outline and face, so that the outline tells little of the shape. Rays are
marched to the surface itself, without a mesh, so the world is independent of the renderers that it is a truth for.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

FAMILIES = ("ellipsoid", "cone", "ridge", "gable", "dome", "bumps")
LABELS = {"family": len(FAMILIES), "yaw": 3, "light": 4, "tone": 3}
"""What is known of a head, each a class number: family, third of the yaw, quarter that the light comes from, third of
the skin's brightness."""

# The camera of the inverse renderer (geod §2.3): largest depth, point that heads turn about, field of view (degrees).
FAR, CENTRE, FOV = 3.3, 2.775, 18.837
_PLANE = FAR - 0.12
_GROUP = 128
_STEPS, _BISECTIONS = 27, 7
_REACH, _SPAN = np.float32(1.08), (2.05, 3.75)
# Lowest and highest value: lengths in half images, heights and depths in units of the camera, angles in radians.
_SHAPE = {
    "wide": (0.62, 0.74),
    "tall": (0.78, 0.88),
    "height": (0.45, 0.75),
    "nose": (0.04, 0.12),
    "sockets": (0.03, 0.10),
    "eyes_apart": (0.26, 0.34),
    "eyes_up": (0.10, 0.26),
    "mouth_down": (0.36, 0.50),
    "mouth_wide": (0.16, 0.28),
}
_LIGHT = {"ambient": (0.2, 0.35), "diffuse": (0.6, 0.85), "x": (-0.9, 0.9), "y": (-0.9, 0.9)}
_YAW, _PITCH = 0.3, 0.15


class Heads(NamedTuple):
    """Rendered heads and the truth about them.

    `images` uint8 [n, 3, s, s]; `depth` float32 [n, s, s], z in the camera's frame; `mask` bool [n, s, s], the head
    without the background; `camera` float32 [n, 25] in EG3D's format, the world's origin being the point that heads
    turn about; `labels` int64 [n, 4] in the order of LABELS.
    """

    images: NDArray[np.uint8]
    depth: Floats
    mask: NDArray[np.bool_]
    camera: Floats
    labels: NDArray[np.int64]


class _Drawn(dict[str, Floats]):
    """Parameters [n, 1] of a group of heads by name."""


def _draw(ranges: dict[str, tuple[float, float]], rng: np.random.Generator, count: int) -> _Drawn:
    low, high = np.array(list(ranges.values()), np.float32).T
    values = low + (high - low) * rng.random((count, len(ranges)), np.float32)
    return _Drawn({name: values[:, [place]] for place, name in enumerate(ranges)})


def _bump(u: Floats, v: Floats, width: float, height: float) -> Floats:
    return np.exp(-((u / width) ** 2) - (v / height) ** 2)


def _roof(across: Floats, along: Floats) -> Floats:
    """Return a roof over the unit disc, whose slopes end at the outline."""
    half_chord = np.sqrt(np.maximum(1 - along * along, 1e-4))
    return np.where(np.abs(along) < 1, np.maximum(0, 1 - across / half_chord), 0)


def _height(u: Floats, v: Floats, head: _Drawn, family: NDArray[np.int64]) -> Floats:
    """Return how far the surface [n, points] stands before the plane."""
    u = np.abs(u)
    x, y = u / head["wide"], v / head["tall"]
    r2 = np.minimum(x * x + y * y, 1)
    fields = {
        "ellipsoid": lambda k: np.sqrt(1 - r2[k]),
        "cone": lambda k: 1 - np.sqrt(r2[k]),
        "ridge": lambda k: _roof(x[k], y[k]),
        "gable": lambda k: _roof(np.abs(y[k]), x[k]),
        "dome": lambda k: 0.85 * (1 - r2[k] ** 4) - 0.6 * _bump(u[k] - head["eyes_apart"][k], v[k] + 0.18, 0.2, 0.2),
        "bumps": lambda k: (1 - r2[k]) * (0.1 + 1.2 * _bump(u[k] - 0.38, v[k] - 0.05, 0.19, 0.42)),
    }
    field = np.empty_like(u)
    for number, name in enumerate(FAMILIES):
        of_family = np.flatnonzero(family == number)
        if len(of_family):
            field[of_family] = fields[name](of_family)
    inside = 1 - r2
    face = head["nose"] * _bump(u, v - 0.08, 0.11, 0.2)
    face -= head["sockets"] * _bump(u - head["eyes_apart"], v + head["eyes_up"], 0.14, 0.1)
    return (head["height"] * field + np.minimum(1, 3 * inside) * face).astype(np.float32)


def _behind(points: Floats, head: _Drawn, family: NDArray[np.int64]) -> Floats:
    """Return how far points [n, p, 3] of the canonical frame are behind the surface, along z."""
    scale = 1 / math.tan(math.radians(FOV) / 2) / points[..., 2]
    return points[..., 2] - _PLANE + _height(points[..., 0] * scale, points[..., 1] * scale, head, family)


def _colours(u: Floats, v: Floats, head: _Drawn, colours: dict[str, Floats]) -> Floats:
    """Return the albedo [n, p, 3] of canonical places, symmetric in u but for the patch."""
    side, u = u, np.abs(u)
    inside = np.clip((1 - np.hypot(u / head["wide"], v / head["tall"])) * 12 + 0.5, 0, 1)
    x, y = u - head["eyes_apart"], v + head["eyes_up"]
    layers = [
        (inside, colours["skin"]),
        (inside * _soft(x, y + 0.19, 0.17, 0.045), colours["brow"]),
        (inside * _soft(x, y, 0.14, 0.085), colours["white"]),
        (inside * _soft(x, y, 0.075, 0.08), colours["iris"]),
        (inside * _soft(u, v - head["mouth_down"], head["mouth_wide"], 0.07), colours["mouth"]),
        (inside * colours["patched"] * _soft(side - 0.36, v - 0.22, 0.15, 0.13), colours["patch"]),
    ]
    found = np.broadcast_to(colours["background"][:, None], (*u.shape, 3))
    for cover, colour in layers:
        found = found + cover[..., None] * (colour[:, None] - found)
    return found.astype(np.float32)


def _soft(x: Floats, y: Floats, width: float | Floats, height: float) -> Floats:
    return np.clip((1 - np.hypot(x / width, y / height)) * np.minimum(width, height) * 12 + 0.5, 0, 1)


def _draw_colours(rng: np.random.Generator, count: int, *, asymmetric: bool) -> dict[str, Floats]:
    tone = rng.random((count, 1), np.float32)
    skin = np.array([0.45, 0.30, 0.22], np.float32) + tone * np.array([0.52, 0.52, 0.5], np.float32)
    drawn = rng.random((5, count, 3), np.float32)
    return {
        "tone": tone,
        "skin": skin,
        "brow": 0.1 + 0.25 * drawn[0, :, :1] * np.array([1, 0.8, 0.6], np.float32),
        "white": np.full((count, 3), 0.95, np.float32),
        "iris": 0.05 + 0.3 * drawn[1],
        "mouth": np.array([0.6, 0.12, 0.15], np.float32) + 0.2 * drawn[2],
        "background": 0.15 + 0.7 * drawn[3],
        "patch": drawn[4],
        "patched": np.full((count, 1), float(asymmetric), np.float32),
    }


def _rotations(yaw: Floats, pitch: Floats) -> Floats:
    """Return Ry Rx [n, 3, 3], from a head's frame to the camera's."""
    (cx, cy), (sx, sy) = (np.cos(pitch), np.cos(yaw)), (np.sin(pitch), np.sin(yaw))
    zero = np.zeros_like(cx)
    rows = [cy, sx * sy, cx * sy, zero, cx, -sx, -sy, sx * cy, cx * cy]
    return np.stack(rows, axis=-1).reshape(-1, 3, 3).astype(np.float32)


def cameras(yaw: Floats, pitch: Floats, size: int) -> Floats:
    """Return cameras [n, 25] in EG3D's format that see a head turned by yaw and pitch (radians, both [n])."""
    to_world = np.tile(np.eye(4, dtype=np.float32), (len(yaw), 1, 1))
    to_world[:, :3, :3] = _rotations(yaw, pitch).transpose(0, 2, 1)
    to_world[:, :3, 3] = -CENTRE * to_world[:, :3, 2]
    # EG3D's pixels are areas: the outermost centres, which the field of view spans, lie half a pixel inside.
    focal = (size - 1) / size / 2 / math.tan(math.radians(FOV) / 2)
    intrinsics = np.array([focal, 0, 0.5, 0, focal, 0.5, 0, 0, 1], np.float32)
    return np.concatenate([to_world.reshape(-1, 16), np.tile(intrinsics, (len(yaw), 1))], axis=1)


def _march(rays: Floats, rotations: Floats, head: _Drawn, family: NDArray[np.int64]) -> Floats:
    """Return z [n, p] in the camera's frame of the first surface that rays (x, y, 1) meet."""
    turned = rays[None] @ rotations
    start = np.array([0, 0, CENTRE], np.float32) - CENTRE * rotations[:, None, 2]

    def behind(z: Floats) -> Floats:
        return _behind(start + z[..., None] * turned, head, family)

    # Where rays meet the plane; no head stands further before it than the reach.
    last = np.clip((_PLANE - start[..., 2]) / turned[..., 2], *_SPAN) + np.float32(1e-3)
    step = np.float32(_REACH / _STEPS)
    hit, is_open = last.copy(), np.ones(last.shape, bool)
    for place in range(1, _STEPS):
        z = last - _REACH + place * step
        crossed = is_open & (behind(z) > 0)
        hit[crossed] = z[crossed]
        is_open &= ~crossed
    low, high = hit - step, hit
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        is_behind = behind(middle) > 0
        low, high = np.where(is_behind, low, middle), np.where(is_behind, middle, high)
    return (low + high) / 2


def _normals(points: Floats, head: _Drawn, family: NDArray[np.int64]) -> Floats:
    """Return unit normals [n, p, 3] of the surface in the canonical frame, by differences of its equation."""
    step = np.float32(4e-3)
    slopes = [
        _behind(points + step * axis, head, family) - _behind(points - step * axis, head, family)
        for axis in np.eye(3, dtype=np.float32)
    ]
    normals = np.stack(slopes, axis=-1)
    return normals / np.linalg.norm(normals, axis=-1, keepdims=True)


def _thirds(values: Floats, low: float, high: float) -> NDArray[np.int64]:
    return ((values - low) / (high - low) * 3).astype(np.int64).clip(0, 2)


def _render_group(rng: np.random.Generator, size: int, families: Sequence[str], *, asymmetric: bool) -> Heads:
    count = _GROUP
    family = rng.choice([FAMILIES.index(name) for name in families], count)
    head, light = _draw(_SHAPE, rng, count), _draw(_LIGHT, rng, count)
    yaw, pitch = (rng.standard_normal((2, count)) * [[_YAW], [_PITCH]]).astype(np.float32)
    colours = _draw_colours(rng, count, asymmetric=asymmetric)
    line = (np.arange(size, dtype=np.float32) - (size - 1) / 2) / ((size - 1) / 2) * math.tan(math.radians(FOV) / 2)
    x, y = np.meshgrid(line, line)
    rays = np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3)
    rotations = _rotations(yaw, pitch)
    depth = _march(rays, rotations, head, family)
    shift = np.array([0, 0, CENTRE], np.float32)
    points = (depth[..., None] * rays - shift) @ rotations + shift
    scale = 1 / math.tan(math.radians(FOV) / 2) / points[..., 2]
    u, v = points[..., 0] * scale, points[..., 1] * scale
    towards = np.concatenate([light["x"], light["y"], np.ones_like(light["x"])], axis=1)
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    lit = np.maximum(0, np.einsum("npc,nc->np", _normals(points, head, family), towards))
    shading = light["ambient"] + light["diffuse"] * lit
    pixels = np.clip(_colours(u, v, head, colours) * shading[..., None], 0, 1) * 255
    labels = [
        family,
        _thirds(yaw, -2 * _YAW, 2 * _YAW),
        (light["x"][:, 0] > 0) + 2 * (light["y"][:, 0] > 0),
        _thirds(colours["tone"][:, 0], 0, 1),
    ]
    return Heads(
        pixels.round().astype(np.uint8).transpose(0, 2, 1).reshape(count, 3, size, size),
        depth.reshape(count, size, size).astype(np.float32),
        (np.hypot(u / head["wide"], v / head["tall"]) < 1).reshape(count, size, size),
        cameras(yaw, pitch, size),
        np.stack(labels, axis=1).astype(np.int64),
    )


def render(count: int, seed: int, size: int, families: Sequence[str] = FAMILIES, *, asymmetric: bool = False) -> Heads:
    """Draw heads; head k depends on (`seed`, k), the size and the families alone.

    Args:
        count: number of heads.
        seed: seed of everything, not negative.
        size: side of the images in pixels.
        families: the families of shapes to draw from, names of FAMILIES.
        asymmetric: whether one cheek has a coloured patch.
    """
    groups = [
        _render_group(np.random.default_rng([seed, k]), size, families, asymmetric=asymmetric)
        for k in range(-(-count // _GROUP))
    ]
    return Heads(*(np.concatenate(parts)[:count] for parts in zip(*groups, strict=True)))
