"""Writes the data sets of the CIFAR-100 protocol, a few images each, in the exact layout of their distribution."""

import pickle

import numpy as np
from PIL import Image


class Python2Pickler(pickle._Pickler):
    """Writes texts and bytes as Python 2 did: both are BINSTRINGs."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_string(self, value):
        raw = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + len(raw).to_bytes(4, "little") + raw)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_string


def write_python2(path, content):
    with path.open("wb") as file:
        Python2Pickler(file, protocol=2).dump(content)
    # NumPy 1 named its module otherwise.
    path.write_bytes(path.read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))


def cifar100(root, train=400, test=100, seed=0):
    rng = np.random.default_rng(seed)
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    images = {}
    for name, count in (("train", train), ("test", test)):
        images[name] = rng.integers(256, size=(count, 3072), dtype=np.uint8)
        content = {
            "filenames": [f"picture_s_{k:06d}.png" for k in range(count)],
            "batch_label": f"{name}ing batch 1 of 1",
            "fine_labels": [k * 7 % 100 for k in range(count)],
            "coarse_labels": [k % 20 for k in range(count)],
            "data": images[name],
        }
        write_python2(folder / name, content)
    write_python2(folder / "meta", {"fine_label_names": [f"f{k}" for k in range(100)], "coarse_label_names": []})
    return images


def resized(root, folder, count=12, seed=1):
    """ODIN's folders hold one class sub-folder of PNG files."""
    pixels = np.random.default_rng(seed).integers(256, size=(count, 32, 32, 3), dtype=np.uint8)
    (root / folder / folder).mkdir(parents=True)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(root / folder / folder / f"test_{number:05d}.png")
    return pixels


def tiny_imagenet(root, classes=4, per_class=3, seed=2):
    rng = np.random.default_rng(seed)
    folder = root / "tiny-imagenet-200"
    (folder / "val" / "images").mkdir(parents=True)
    names = [f"n{9000 - k:08d}" for k in range(classes)]
    (folder / "wnids.txt").write_text("\n".join(names) + "\n")
    rows = []
    for number in range(classes * per_class):
        image = np.kron(rng.integers(256, size=(8, 8, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
        Image.fromarray(image).save(folder / "val" / "images" / f"val_{number}.JPEG", quality=95)
        rows.append(f"val_{number}.JPEG\t{names[number % classes]}\t0\t32\t44\t62")
    (folder / "val" / "val_annotations.txt").write_text("\n".join(rows) + "\n")
    return folder


def outliers(root, count=300, seed=3):
    images = np.random.default_rng(seed).integers(256, size=(count, 32, 32, 3), dtype=np.uint8)
    np.save(root / "300K_random_images.npy", images)
    return images


def everything(root):
    images = cifar100(root)
    images |= {name: resized(root, name, seed=len(name)) for name in ("Imagenet_resize", "LSUN_resize")}
    tiny_imagenet(root)
    return images | {"outlier": outliers(root)}
