"""Fine-grained sets of five classes, written once for a test file, and how they are opened."""

import shutil

import pytest

from datamodules.fgvc import NUM_CLASSES, Fgvc
from datamodules.formats.fine_grained import FORMS
from tests.datamodules import miniature_fgvc
from tests.datamodules.miniature_fgvc import WRITERS

FEW = 5


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Every set with five classes."""
    root = tmp_path_factory.mktemp("fgvc")
    for name, write in WRITERS.items():
        (root / name).mkdir()
        write(root / name, classes=FEW)
    return root


@pytest.fixture(autouse=True)
def few_classes(monkeypatch):
    monkeypatch.setattr("datamodules.fgvc.NUM_CLASSES", dict.fromkeys(NUM_CLASSES, FEW))


def small(root, dataset, **options):
    options = {"batch_size": 4, "num_workers": 0, "image_size": 28, "val_fraction": 0.2, "num_classes": FEW} | options
    return Fgvc(dataset=dataset, root=str(root / dataset), **options)


def names(data, split):
    return {str(path.relative_to(data.root)) for path in data._splits[split][0]}


def with_json(root, dataset, tmp_path, ids=lambda label: 3 * label + 7):
    """Copy a set and give it VPT's splits in place of its own, with class ids that have gaps."""
    copy = tmp_path / dataset
    shutil.copytree(root / dataset, copy)
    rows = FORMS[dataset].read(copy)
    rows.setdefault("val", rows["train"][1::2])
    rows["train"] = [row for row in rows["train"] if row not in rows["val"]]
    miniature_fgvc.vpt_json(copy, {name: [(path, ids(label)) for path, label in of] for name, of in rows.items()})
    for file in FORMS[dataset].files:
        (copy / file).unlink()
    return rows
