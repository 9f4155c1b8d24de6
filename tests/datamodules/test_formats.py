import os
import pickle
import pickletools

import numpy as np
import pytest
from PIL import Image

from datamodules.formats.cifar import read_cifar100, read_plain_pickle
from datamodules.formats.folders import pictures, read_pictures, tiny_imagenet_val
from tests.datamodules import miniature


def test_cifar_as_distributed_is_read(tmp_path):
    images = miniature.cifar100(tmp_path)
    file = tmp_path / "cifar-100-python" / "train"
    opcodes = {opcode.name for opcode, *_ in pickletools.genops(file.read_bytes())}
    assert "BINSTRING" in opcodes
    assert not opcodes & {"BINUNICODE", "SHORT_BINBYTES", "BINBYTES"}
    assert b"cnumpy.core.multiarray\n_reconstruct" in file.read_bytes()
    pixels, labels = read_cifar100(file)
    assert np.array_equal(pixels, images["train"].reshape(-1, 3, 32, 32))
    assert labels.tolist() == [k * 7 % 100 for k in range(400)]
    assert labels.dtype == np.int64
    assert read_plain_pickle(tmp_path / "cifar-100-python" / "meta")["fine_label_names"][99] == "f99"


@pytest.mark.parametrize("protocol", [2, 4])
def test_cifar_written_by_python_3_with_bytes_keys_is_read(tmp_path, protocol):
    data = np.arange(2 * 3072).reshape(2, 3072).astype(np.uint8)
    (tmp_path / "test").write_bytes(pickle.dumps({b"data": data, b"fine_labels": [3, 99]}, protocol=protocol))
    pixels, labels = read_cifar100(tmp_path / "test")
    assert np.array_equal(pixels.reshape(2, -1), data)
    assert labels.tolist() == [3, 99]


class Call:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize(
    "build",
    [
        lambda mark: Call(os.system, f"touch {mark}"),
        lambda mark: Call(eval, f"open({str(mark)!r}, 'w')"),
        lambda mark: Call(getattr, "text", "upper"),
        lambda mark: {"data": [Call(exec, f"open({str(mark)!r}, 'w')")]},
        lambda mark: np.array([Call(os.system, f"touch {mark}")], dtype=object),
    ],
)
def test_a_pickle_that_calls_anything_is_refused(tmp_path, build, protocol):
    mark = tmp_path / "mark"
    (tmp_path / "train").write_bytes(pickle.dumps(build(mark), protocol=protocol))
    with pytest.raises(ValueError, match="refused"):
        read_cifar100(tmp_path / "train")
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no pickle",
        pickle.dumps([1, 2]),
        pickle.dumps({"data": np.zeros((1, 3072), np.uint8)}),
        pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "fine_labels": [0]}),
        pickle.dumps({"data": np.zeros((1, 3072), np.float32), "fine_labels": [0]}),
        pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "fine_labels": [100]}),
        pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "fine_labels": [0]})[:-40],
    ],
)
def test_what_is_not_cifar_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "train").write_bytes(content)
    with pytest.raises(ValueError, match=r"of CIFAR.* as distributed") as error:
        read_cifar100(tmp_path / "train")
    assert "\n" not in str(error.value)


def test_folders_of_pictures_are_read_in_order(tmp_path):
    pixels = miniature.resized(tmp_path, "LSUN_resize")
    (tmp_path / "LSUN_resize" / "LSUN_resize" / ".DS_Store").write_text("")
    paths = pictures(tmp_path / "LSUN_resize")
    assert [path.name for path in paths] == [f"test_{k:05d}.png" for k in range(12)]
    assert np.array_equal(read_pictures(paths, 32).transpose(0, 2, 3, 1), pixels)


def test_pictures_of_any_kind_become_rgb_of_one_size(tmp_path):
    Image.new("L", (64, 64), 90).save(tmp_path / "grey.png")
    image = read_pictures([tmp_path / "grey.png"], 32)
    assert image.shape == (1, 3, 32, 32)
    assert (image == 90).all()
    (tmp_path / "broken.png").write_bytes((tmp_path / "grey.png").read_bytes()[:40])
    with pytest.raises(ValueError, match=r"broken\.png is not a whole picture"):
        read_pictures([tmp_path / "broken.png"], 32)


def test_tiny_imagenet_is_read_with_the_classes_of_its_list(tmp_path):
    folder = miniature.tiny_imagenet(tmp_path)
    paths, labels = tiny_imagenet_val(folder)
    assert [path.name for path in paths] == [f"val_{k}.JPEG" for k in range(12)]
    assert labels.tolist() == [k % 4 for k in range(12)]
    assert read_pictures(paths, 32).shape == (12, 3, 32, 32)
    notes = folder / "val" / "val_annotations.txt"
    notes.write_text(notes.read_text() + "val_99.JPEG\tn00000000\t0\t0\t1\t1\n")
    with pytest.raises(ValueError, match="n00000000"):
        tiny_imagenet_val(folder)
