"""FFHQ, LSUN and CIFAR-10, a few pictures each, in the exact layout of their distribution."""

import io
import tarfile

import lmdb
import numpy as np
from PIL import Image

from tests.datamodules.miniature import write_python2


def picture(rng, size=(40, 48)):
    return Image.fromarray(rng.integers(256, size=(*size, 3), dtype=np.uint8))


def ffhq(root, count=24):
    folder, rng = root / "images1024x1024", np.random.default_rng(0)
    for k in range(count):
        # A thousand to a folder in the distribution.
        place = folder / f"{k // 10 * 1000:05d}"
        place.mkdir(parents=True, exist_ok=True)
        picture(rng).save(place / f"{k:05d}.png")
    return folder


def lsun(root, count=24):
    folder, rng = root / "church_outdoor_train_lmdb", np.random.default_rng(1)
    root.mkdir(exist_ok=True)
    with lmdb.open(str(folder), map_size=2**24) as environment, environment.begin(write=True) as transaction:
        for _ in range(count):
            file = io.BytesIO()
            picture(rng).save(file, "WEBP")
            transaction.put(rng.bytes(20).hex().encode(), file.getvalue())
    return folder


def shards(root, count=24):
    folder, rng = root / "shards", np.random.default_rng(3)
    folder.mkdir(parents=True)
    suffixes = ("jpg", "png", "webp")
    for number in range(3):
        with tarfile.open(folder / f"{number:05d}.tar", "w") as shard:
            for k in range(number * count // 3, (number + 1) * count // 3):
                kept, name = io.BytesIO(), f"{number:05d}{k:04d}"
                suffix = suffixes[k % 3]
                picture(rng).save(kept, {"jpg": "JPEG"}.get(suffix, suffix.upper()))
                sample = {suffix: kept.getvalue(), "txt": b"a caption", "json": b'{"width": 48}'}
                for end, content in sample.items():
                    member = tarfile.TarInfo(f"{name}.{end}")
                    member.size = len(content)
                    shard.addfile(member, io.BytesIO(content))
    return folder


def cifar10(root, count=6):
    folder, rng = root / "cifar-10-batches-py", np.random.default_rng(2)
    folder.mkdir(parents=True)
    for k in range(1, 6):
        content = {
            "batch_label": f"training batch {k} of 5",
            "labels": [n % 10 for n in range(count)],
            "data": rng.integers(256, size=(count, 3072), dtype=np.uint8),
            "filenames": [f"picture_s_{n:06d}.png" for n in range(count)],
        }
        write_python2(folder / f"data_batch_{k}", content)
    return root


WRITERS = {"ffhq": ffhq, "picture_shards": shards, "lsun_church": lsun, "cifar10": cifar10}
