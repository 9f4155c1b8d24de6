"""Writes the fine-grained sets and a task of VTAB-1k, small pictures of noise, as they are distributed."""

import json

import numpy as np
from PIL import Image
from scipy.io import savemat

SETS = {"cub": 200, "nabirds": 555, "flowers": 102, "dogs": 120, "cars": 196}
# Of each class: two pictures to train on, of which some become validation, and one to test.
TRAIN, TEST = 2, 1


def picture(path, rng, mode="RGB"):
    """Write a picture that is higher than it is wide."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(256, size=(6, 5, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((40, 48)).convert(mode).save(path)


def _cells(texts):
    """Return what MATLAB calls a cell column of texts."""
    cells = np.empty((len(texts), 1), dtype=object)
    cells[:, 0] = texts
    return cells


def _listed(root, names, ids, keys):
    """CUB and NABirds: `id value` lists; the pictures of a class lie in its folder."""
    lines = {"images": [], "image_class_labels": [], "train_test_split": []}
    rng, number = np.random.default_rng(0), 0
    for name, class_id in zip(names, ids, strict=True):
        for k in range(TRAIN + TEST):
            file = f"{name}/{name.split('.')[-1]}_{k:04d}_{number}.jpg"
            # CUB has a few grey pictures.
            picture(root / "images" / file, rng, "L" if number == 0 else "RGB")
            key = keys(number)
            lines["images"].append(f"{key} {file}")
            lines["image_class_labels"].append(f"{key} {class_id}")
            lines["train_test_split"].append(f"{key} {int(k < TRAIN)}")
            number += 1
    for list_name, content in lines.items():
        (root / f"{list_name}.txt").write_text("\n".join(content) + "\n")
    (root / "classes.txt").write_text("".join(f"{i} {name}\n" for i, name in zip(ids, names, strict=True)))


def cub(root, classes=200):
    names = [f"{k + 1:03d}.Bird_{k}" for k in range(classes)]
    _listed(root, names, range(1, classes + 1), lambda number: number + 1)


def nabirds(root, classes=555):
    """Class ids have gaps, and their folders have four digits."""
    ids = [2 * k + 79 for k in range(classes)]
    _listed(root, [f"{i:04d}" for i in ids], ids, lambda number: f"{number:08x}-21dc-4d0c-bfe1-4cae3c85c829")


def flowers(root, classes=102):
    """Pictures are numbered from 1 in one folder; train, valid and test are lists of these numbers."""
    labels = np.arange(3 * classes) % classes + 1
    rng = np.random.default_rng(1)
    for number in range(1, len(labels) + 1):
        picture(root / "jpg" / f"image_{number:05d}.jpg", rng)
    savemat(root / "imagelabels.mat", {"labels": labels[None].astype(np.uint8)})
    thirds = np.arange(1, len(labels) + 1, dtype=np.uint16).reshape(3, 1, classes)
    savemat(root / "setid.mat", dict(zip(("tstid", "trnid", "valid"), thirds, strict=True)))


def dogs(root, classes=120):
    rng = np.random.default_rng(2)
    files = {"train": [], "test": []}
    for k in range(classes):
        wnid = f"n{2085620 + k:08d}"
        for n in range(TRAIN + TEST):
            files["train" if n < TRAIN else "test"].append((f"{wnid}-Dog_{k}/{wnid}_{n}", k + 1))
    for split, rows in files.items():
        for name, _ in rows:
            picture(root / "Images" / f"{name}.jpg", rng)
        content = {
            "file_list": _cells([f"{name}.jpg" for name, _ in rows]),
            "annotation_list": _cells([name for name, _ in rows]),
            "labels": np.array([[label] for _, label in rows], float),
        }
        savemat(root / f"{split}_list.mat", content)


def cars(root, classes=196):
    rng = np.random.default_rng(3)
    (root / "devkit").mkdir(parents=True)
    fields = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")
    places = {"train": ("devkit/cars_train_annos.mat", TRAIN), "test": ("cars_test_annos_withlabels.mat", TEST)}
    for split, (file, per_class) in places.items():
        notes = np.empty((1, per_class * classes), dtype=[(field, object) for field in fields])
        for place in range(notes.size):
            name = f"{place + 1:05d}.jpg"
            picture(root / f"cars_{split}" / name, rng)
            notes[0, place] = (1, 1, 39, 47, place % classes + 1, name)
        savemat(root / file, {"annotations": notes})
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": _cells([f"Car {k}" for k in range(classes)]).T})


WRITERS = {"cub": cub, "nabirds": nabirds, "flowers": flowers, "dogs": dogs, "cars": cars}


def vpt_json(root, rows):
    """Write VPT's three files from the rows (path, id) of every split."""
    for split, content in rows.items():
        (root / f"{split}.json").write_text(json.dumps(dict(content)))


def vtab(root, task="svhn", classes=10, train=80, val=20, test=30):
    rng = np.random.default_rng(4)
    lists = {"train800": [], "val200": [], "test": []}
    for name, count in (("train800", train), ("val200", val), ("test", test)):
        for k in range(count):
            file = f"images/{'test' if name == 'test' else 'train'}/{name}_{k:06d}.png"
            picture(root / task / file, rng)
            lists[name].append(f"{file} {k % classes}\n")
    lists["train800val200"] = lists["train800"] + lists["val200"]
    for name, lines in lists.items():
        (root / task / f"{name}.txt").write_text("".join(lines))
