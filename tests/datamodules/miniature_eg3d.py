"""A few pictures with cameras around the origin, in the exact layout of EG3D's data sets: a folder or a .zip file."""

import io
import json
import zipfile

import numpy as np

from tests.datamodules.miniature_generative import picture


def camera(rng):
    """25 numbers: a camera 2.7 from the origin that looks at it; OpenCV, so that y points down."""
    yaw, pitch = rng.uniform(-0.6, 0.6), rng.uniform(-0.3, 0.3)
    place = 2.7 * np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    ahead = -place / 2.7
    right = np.cross(ahead, [0, 1, 0])
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3] = np.stack([right, np.cross(ahead, right), ahead, place], axis=1)
    intrinsics = [[4.2647, 0, 0.5], [0, 4.2647, 0.5], [0, 0, 1]]
    return [*matrix.ravel().tolist(), *np.ravel(intrinsics).tolist()]


def files(count=24, size=40):
    """Contents by name; the cameras come in another order than the pictures."""
    rng, found, labels = np.random.default_rng(0), {}, []
    for k in range(count):
        # A thousand to a folder in the distribution.
        name, file = f"{k // 10:05d}/img{k:08d}.png", io.BytesIO()
        picture(rng, (size, size)).save(file, "PNG")
        found[name] = file.getvalue()
        labels.append([name, camera(rng)])
    order = rng.permutation(count)
    return found | {"dataset.json": json.dumps({"labels": [labels[k] for k in order]}).encode()}


def write(path, found):
    """Write files as a .zip file, stored as in the distribution, if the path ends so, and as a folder otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
            for name, content in found.items():
                file.writestr(name, content)
        return path
    for name, content in found.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path
