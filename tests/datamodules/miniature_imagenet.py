"""Writes ImageNet and ImageNet-O, a few pictures each, in the exact layout of their distribution."""

import numpy as np
from PIL import Image

WNIDS = ("n01440764", "n01443537", "n01484850", "n02123045", "n03000134")


def _pictures(folder, name, count, seed):
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for number in range(count):
        picture = np.kron(rng.integers(256, size=(5, 6, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
        # Some of ImageNet's pictures are grey.
        Image.fromarray(picture if number else picture[..., 0]).save(folder / name.format(number), quality=95)


def imagenet(root, train=6, val=4):
    """train/<wnid>/<wnid>_<n>.JPEG and val/<wnid>/ILSVRC2012_val_<n>.JPEG."""
    for k, wnid in enumerate(WNIDS):
        _pictures(root / "train" / wnid, wnid + "_{}.JPEG", train, k)
        _pictures(root / "val" / wnid, f"ILSVRC2012_val_{k:04d}" + "{:04d}.JPEG", val, 100 + k)


def imagenet_o(root):
    _pictures(root / "imagenet-o" / "n02000000", "n02000000_{}.JPEG", 3, 7)
    return root / "imagenet-o"
