"""Fingerprints of files and folders, what is declared as data, and what both do to a run's identity."""

import os
import shutil

import pytest

from common.errors import UserError
from common.fingerprint import BLOCK_BYTES, MAX_SAMPLED_FILES, compared_files, fingerprint, forget, open_data


@pytest.fixture(autouse=True)
def _fresh():
    forget()
    yield
    forget()


def again(path):
    forget()
    return fingerprint(path)


def folder_of(place, contents):
    for name, content in contents.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    return place


FILES = {"a/1.png": b"one", "a/2.png": b"two", "b/3.png": b"three"}


def test_the_same_data_elsewhere_and_at_another_time_are_the_same(tmp_path):
    here = folder_of(tmp_path / "here", FILES)
    there = shutil.copytree(here, tmp_path / "mnt" / "there")
    os.utime(there / "a" / "1.png", (0, 0))
    assert fingerprint(here) == fingerprint(there)


@pytest.mark.parametrize(
    "change",
    [
        {"a/1.png": b"ONE"},
        {"a/1.png": b"longer"},
        {"c/4.png": b"new"},
    ],
)
def test_contents_sizes_and_names_count(change, tmp_path):
    here = folder_of(tmp_path, FILES)
    before = fingerprint(here)
    folder_of(here, change)
    assert again(here) != before


def test_a_renamed_file_and_a_missing_one_count(tmp_path):
    here = folder_of(tmp_path, FILES)
    before = fingerprint(here)
    (here / "a" / "1.png").rename(here / "a" / "0.png")
    renamed = again(here)
    (here / "a" / "0.png").unlink()
    assert len({before, renamed, again(here)}) == 3


def test_what_programs_leave_next_to_data_does_not_count(tmp_path):
    here = folder_of(tmp_path, FILES)
    before = fingerprint(here)
    folder_of(here, {".DS_Store": b"x", "a/._1.png": b"x", "__MACOSX/a": b"x", "Thumbs.db": b"x", "lock.mdb": b"x"})
    assert again(here) == before


def test_linked_folders_are_followed_and_circles_end(tmp_path):
    here = folder_of(tmp_path / "here", FILES)
    before = fingerprint(here)
    other = folder_of(tmp_path / "other", {"4.png": b"four"})
    (here / "linked").symlink_to(other)
    linked = again(here)
    assert linked != before
    (here / "linked" / "circle").symlink_to(here)
    (here / "gone.png").symlink_to(tmp_path / "nowhere")
    # The circle shows the folder once more, below another name, and ends there.
    assert again(here) is not None


@pytest.mark.parametrize("place", [0, BLOCK_BYTES - 1, 10 * BLOCK_BYTES - 1])
def test_ends_of_large_files_are_read(place, tmp_path):
    path = tmp_path / "data.zip"
    content = bytearray(10 * BLOCK_BYTES)
    path.write_bytes(content)
    before = fingerprint(path)
    content[place] = 1
    path.write_bytes(content)
    assert again(path) != before


def test_every_byte_of_a_file_of_some_blocks_is_read(tmp_path):
    path = tmp_path / "labels.npy"
    content = bytearray(3 * BLOCK_BYTES + 17)
    seen = set()
    for place in range(0, len(content), 997):
        content[place] = 1
        path.write_bytes(content)
        seen.add(again(path))
        content[place] = 0
    assert len(seen) == len(range(0, len(content), 997))


def test_every_file_of_a_small_folder_is_read(tmp_path):
    names = {f"{k:03d}.png": b"same" for k in range(MAX_SAMPLED_FILES)}
    here = folder_of(tmp_path, names)
    seen = {fingerprint(here)}
    for name in names:
        folder_of(here, {name: b"SAME"})
        seen.add(again(here))
        folder_of(here, {name: b"same"})
    assert len(seen) == len(names) + 1


def test_nothing_there_is_none_and_within_a_run_data_are_read_once(tmp_path):
    assert fingerprint(tmp_path / "nowhere") is None
    here = folder_of(tmp_path / "here", FILES)
    before = fingerprint(here)
    folder_of(here, {"5.png": b"five"})
    assert fingerprint(here) == before != again(here)


def test_what_cannot_be_read_gets_one_line(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    folder_of(tmp_path, FILES)
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match="cannot be read \\(Permission denied\\)"):
        fingerprint(tmp_path)


def test_open_paths_closed_paths_and_weights(tmp_path):
    folder_of(tmp_path, {"set/train/1.png": b"a", "set/other": b"b", "lists/fit.txt": b"c", "net.pth": b"d"})
    data = {
        "_paths_": {"root": ["train", "val"], "lists": "open"},
        "root": str(tmp_path / "set"),
        "lists": {"fit": str(tmp_path / "lists" / "fit.txt")},
    }
    model = {"_target_": "a.B", "backbone": {"weights": str(tmp_path / "net.pth"), "name": "resnet.50"}}
    assert set(open_data(data)) == {"lists"}
    found = compared_files({"data": data, "model": model, "ckpt": None})
    assert set(found) == {"data.root/train", "model.backbone.weights"}
    forget()
    folder_of(tmp_path, {"set/other": b"changed"})
    assert compared_files({"data": data, "model": model, "ckpt": None}) == found


def test_a_root_of_which_nothing_is_declared_is_open(tmp_path):
    assert set(open_data({"root": str(folder_of(tmp_path, FILES))})) == {"root"}
    assert open_data({"root": str(tmp_path / "nowhere")}) == {}
    assert open_data({"size": 3}) == {}
