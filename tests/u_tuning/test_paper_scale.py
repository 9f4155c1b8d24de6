"""The paper-scale experiments' tiny twins, from data in the exact distributed layout to the table."""

import pytest

from tests.cli.quire import call, checkpoint, only_folder, quire, read
from tests.datamodules import miniature
from tests.datamodules.miniature_fgvc import WRITERS, vpt_json
from tests.tiers import full

# The true readers and splits; a small network of the same family and small images for the CPU's sake.
SMALL = (
    "debug=tiny",
    "data.batch_size=4",
    "data.image_size=32",
    "model.backbone.name=vit_tiny_patch16_224",
    "model.backbone.weights=null",
)
CLASSES = {"cifar100": 100, "cub": 200, "nabirds": 555, "flowers": 102, "dogs": 120, "cars": 196}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def write(root, name):
    """Write a set once, with all of its classes; returns its data.root."""
    place = root / name
    if not place.exists():
        place.mkdir()
        miniature.cifar100(place) if name == "cifar100" else WRITERS[name](place)
    return place


@pytest.mark.parametrize("name", ["flowers", *full(*(name for name in CLASSES if name != "flowers"))])
def test_the_tiny_twin_runs_from_files_to_table(root, tmp_path, name):
    experiment = f"u_tuning_{name}"
    more = ["data.val_size=100"] if name == "cifar100" else []
    done = quire(f"experiment={experiment}", *SMALL, *more, f"data.root={write(root, name)}", f"runs={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = only_folder(tmp_path, experiment)
    metrics = read(folder / "result.json")["metrics"]
    assert 0 <= metrics["test/acc"] <= 100
    assert metrics["test/loss"] > 0
    trained = checkpoint(folder, "best.ckpt")["state_dict"]
    assert trained["head.weight"].shape == (CLASSES[name], 192)
    # A head that starts at zero has moved.
    assert trained["head.weight"].abs().max() > 0


@pytest.mark.full
def test_vpts_splits_are_taken_by_the_same_door(root, tmp_path):
    from datamodules.formats.fine_grained import FORMS

    place = tmp_path / "cub"
    place.mkdir()
    WRITERS["cub"](place)
    rows = FORMS["cub"].read(place)
    vpt_json(place, {"train": rows["train"][:-20], "val": rows["train"][-20:], "test": rows["test"]})
    for file in FORMS["cub"].files:
        (place / file).unlink()
    done = quire("experiment=u_tuning_cub", *SMALL, f"data.root={place}", f"runs={tmp_path / 'runs'}")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", CLASSES)
def test_missing_data_are_one_line_with_the_layout(tmp_path, name):
    done = call(f"experiment=u_tuning_{name}", *SMALL, f"data.root={tmp_path}", f"runs={tmp_path}", "mode=check")
    assert done.returncode == 2
    assert "expected there: " in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_another_number_of_classes_is_one_line(tmp_path):
    done = call("experiment=u_tuning_cub", *SMALL, "data.num_classes=10", f"runs={tmp_path}", "mode=check")
    assert done.returncode == 2
    assert "data.num_classes is 10, but cub has 200 classes" in done.stderr
    assert "Traceback" not in done.stderr
