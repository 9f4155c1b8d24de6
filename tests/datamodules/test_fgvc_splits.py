import shutil

import pytest

from datamodules.formats.fine_grained import FORMS, contiguous, read_json
from tests.datamodules import miniature_fgvc
from tests.datamodules.fgvc_small import FEW, few_classes, small, with_json, written
from tests.datamodules.miniature_fgvc import SETS

__all__ = ["few_classes", "written"]


@pytest.mark.parametrize("dataset", SETS)
def test_splits_by_json(written, tmp_path, dataset):
    rows = with_json(written, dataset, tmp_path)
    data = small(tmp_path, dataset)
    data.check()
    assert data.by_json
    folder = data.root / FORMS[dataset].images
    for split, of in rows.items():
        paths, labels = data._splits[split]
        assert paths == [folder / path for path, _ in of]
        # The pictures of the first class are 0, whatever it was called.
        first = min(label for part in rows.values() for _, label in part)
        step = 2 if dataset == "nabirds" else 1
        assert labels.tolist() == [(label - first) // step for _, label in of]
    assert data.source("val")[0]["image"].shape == (3, 28, 28)


def test_json_is_taken_before_the_lists(written, tmp_path):
    copy = tmp_path / "cub"
    shutil.copytree(written / "cub", copy)
    rows = FORMS["cub"].read(copy)
    shown = {"train": rows["train"][:6], "val": rows["train"][6:], "test": rows["test"]}
    miniature_fgvc.vpt_json(copy, shown)
    assert {name: len(paths) for name, (paths, _) in small(tmp_path, "cub")._splits.items()} == {
        "train": 6, "val": 4, "test": 5,
    }  # fmt: skip


def test_labels_of_nabirds_lose_their_gaps(written):
    rows = FORMS["nabirds"].read(written / "nabirds")
    assert sorted({label for _, label in rows["test"]}) == [79, 81, 83, 85, 87]
    data = small(written, "nabirds")
    for split in ("train", "val", "test"):
        paths, labels = data._splits[split]
        assert [79 + 2 * label for label in labels] == [int(path.parent.name) for path in paths]


def test_a_class_that_a_split_lacks_moves_no_label():
    splits = contiguous({"train": [("a", 4), ("b", 9), ("c", 30)], "test": [("d", 30), ("e", 4)]})
    assert splits["train"][1].tolist() == [0, 1, 2]
    assert splits["test"][1].tolist() == [2, 0]


def test_ids_may_be_texts(written, tmp_path):
    with_json(written, "dogs", tmp_path, ids=lambda label: f"n{label:08d}")
    data = small(tmp_path, "dogs")
    data.check()
    assert sorted(data.source("test").labels) == list(range(FEW))


@pytest.mark.parametrize("dataset", SETS)
def test_every_missing_file_is_one_line_with_the_layout(written, tmp_path, dataset):
    form = FORMS[dataset]
    for gone in [*form.files, *([form.images] if form.images else [])]:
        copy = tmp_path / gone.replace("/", "_") / dataset
        shutil.copytree(written / dataset, copy)
        shutil.rmtree(copy / gone) if (copy / gone).is_dir() else (copy / gone).unlink()
        with pytest.raises(FileNotFoundError) as error:
            small(copy.parent, dataset).check()
        said = str(error.value)
        assert said.startswith(f"no {gone} under data.root={copy} for {dataset}; expected there: {form.layout}")
        assert "\n" not in said


def test_a_missing_picture_is_named(written, tmp_path):
    copy = tmp_path / "flowers"
    shutil.copytree(written / "flowers", copy)
    (copy / "jpg" / "image_00003.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"a picture of the splits is not there, such as .*image_00003\.jpg"):
        small(tmp_path, "flowers").check()


def test_json_needs_all_three(written, tmp_path):
    with_json(written, "cars", tmp_path)
    (tmp_path / "cars" / "val.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no val\.json under"):
        small(tmp_path, "cars").check()


def test_another_number_of_classes_or_a_leak_is_told(written, tmp_path):
    rows = with_json(written, "cub", tmp_path)
    leaked = [(path, 3 * label + 7) for path, label in rows["train"][:2]]
    miniature_fgvc.vpt_json(tmp_path / "cub", {"val": leaked})
    with pytest.raises(ValueError, match="name a picture twice"):
        small(tmp_path, "cub").check()
    few = {name: [row for row in of if row[1] < 4] for name, of in rows.items()}
    miniature_fgvc.vpt_json(tmp_path / "cub", few)
    with pytest.raises(ValueError, match="has 3 classes, but cub has 5"):
        small(tmp_path, "cub").check()


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"a": null}', '{"a": 1, "b": "1"}'])
def test_json_of_another_form_is_refused(tmp_path, content):
    for name in ("train", "val", "test"):
        (tmp_path / f"{name}.json").write_text(content)
    with pytest.raises(ValueError, match=r"train\.json does not map picture paths to class ids"):
        read_json(tmp_path)


@pytest.mark.parametrize(
    ("dataset", "file", "content", "said"),
    [
        ("cub", "images.txt", "1\n2\n", "not a list of lines"),
        ("cub", "images.txt", "1 a.jpg\n", "name different pictures"),
        ("flowers", "setid.mat", "text", "not a MATLAB file with trnid"),
        ("dogs", "test_list.mat", "", "not a MATLAB file with file_list"),
    ],
)
def test_a_broken_split_file_is_one_line(written, tmp_path, dataset, file, content, said):
    shutil.copytree(written / dataset, tmp_path / dataset)
    (tmp_path / dataset / file).write_text(content)
    with pytest.raises(ValueError, match=said) as error:
        small(tmp_path, dataset).check()
    assert "\n" not in str(error.value)
