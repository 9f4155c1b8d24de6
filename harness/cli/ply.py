"""Meshes as binary PLY files, which every viewer of meshes opens."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_HEADER = """ply
format binary_little_endian 1.0
element vertex {}
property float x
property float y
property float z
property uchar red
property uchar green
property uchar blue
element face {}
property list uchar int vertex_indices
end_header
"""


def write_ply(
    path: Path, vertices: NDArray[np.float32], triangles: NDArray[np.int32], colours: NDArray[np.uint8]
) -> None:
    """Write a mesh.

    Args:
        path: the file.
        vertices: float [n, 3].
        triangles: corners int [m, 3].
        colours: red, green and blue of the vertices, uint8 [n, 3].
    """
    points = np.empty(len(vertices), [("place", "<f4", 3), ("colour", "u1", 3)])
    points["place"], points["colour"] = vertices, colours
    faces = np.empty(len(triangles), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, triangles
    path.write_bytes(_HEADER.format(len(points), len(faces)).encode() + points.tobytes() + faces.tobytes())
