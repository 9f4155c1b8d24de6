"""Files that are no weights, are damaged, or ask for code: one line each, and nothing of them is run."""

import io
import os
import pickle
import re
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from common.errors import UserError
from networks.weights.forms import read_weights
from networks.weights.pickles import Placeholder, names_in_pickle, read_pickled, tensors_of
from tests.networks.weights.miniature import vit, write_torchscript

NOT_WEIGHTS = {
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n", "is a Git LFS pointer"),
    "page": (b"\n<!DOCTYPE html><html>Quota exceeded</html>", "is a web page"),
    "denied": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is a web page"),
    "empty": (b"", "is empty"),
    # As StyleGAN2 and EG3D distribute networks.
    "pickle": (pickle.dumps({"G_ema": [1, 2]}), "is a pickle of Python objects"),
    "text": (b"no weights\nat all", r"no file of weights \(it begins with 'no weights'\); expected a file of torch"),
}


def refused(path):
    """Return the one line in which a file is refused."""
    with pytest.raises(UserError) as error:
        read_weights(str(path), "model.key")
    line = str(error.value)
    assert line.startswith("model.key: ")
    assert "\n" not in line
    assert "weights_only" not in line
    assert "safe_globals" not in line
    return line


@pytest.mark.parametrize("name", NOT_WEIGHTS)
@pytest.mark.parametrize("suffix", ["pth", "safetensors", "npz"])
def test_what_is_no_file_of_weights_is_named(tmp_path, name, suffix):
    content, expected = NOT_WEIGHTS[name]
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    line = refused(path)
    assert re.search(expected, line)
    assert str(path) in line


def test_missing_files_and_empty_folders(tmp_path):
    assert "no file" in refused(tmp_path / "none.pth")
    assert "no file of weights in" in refused(tmp_path)


def test_damaged_files_are_cut_off(tmp_path):
    torch.save(vit(0).state_dict(), tmp_path / "a.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "a.pth").read_bytes()[:-500])
    assert "is cut off" in refused(tmp_path / "cut.pth")
    save_file(vit(0).state_dict(), tmp_path / "a.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:-500])
    assert "is damaged or cut off" in refused(tmp_path / "cut.safetensors")
    torch.save(vit(0).state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "cut_old.pth").write_bytes((tmp_path / "old.pth").read_bytes()[:300])
    assert "cannot be read as tensors" in refused(tmp_path / "cut_old.pth")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("weights/model.pth", b"")
    assert "is a zip archive of weights/model.pth" in refused(tmp_path / "a.zip")
    torch.save([1, 2], tmp_path / "list.pth")
    assert "holds no tensors by name" in refused(tmp_path / "list.pth")


def test_arrays_are_read_without_objects(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(3.0))
    assert read_weights(str(tmp_path / "a.npz"), "k").tensors["x"].tolist() == [0, 1, 2]
    np.savez(tmp_path / "b.npz", x=np.array([{}], dtype=object))
    assert "cannot be read as plain arrays" in refused(tmp_path / "b.npz")


class Attack:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("is_zip", [True, False])
def test_what_a_file_asks_for_is_never_called(tmp_path, is_zip):
    mark = tmp_path / "called"
    content = {"state_dict": {"x": torch.ones(2)}, "note": Attack(exec, f"open({str(mark)!r}, 'w').close()")}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=is_zip)
    pickle.loads(pickle.dumps(content["note"]))
    assert mark.exists()
    mark.unlink()
    assert torch.equal(read_weights(str(tmp_path / "a.pth"), "k").tensors["x"], torch.ones(2))
    torch.save({"x": torch.ones(2), "note": Attack(os.mkdir, str(mark))}, tmp_path / "b.pth")
    assert "is blocked" in refused(tmp_path / "b.pth")
    assert not mark.exists()


def test_torchscript_is_read_but_not_loaded(tmp_path, monkeypatch):
    write_torchscript(tmp_path / "a.pt", vit(0), ["vocab_size"])
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("the archive is executed"))
    monkeypatch.setattr(torch._C, "import_ir_module", lambda *_, **__: pytest.fail("the archive is executed"))
    found = read_weights(str(tmp_path / "a.pt"), "k")
    assert found.form == "a TorchScript archive"
    state = vit(0).state_dict()
    assert found.tensors.keys() == {*state, "vocab_size"}
    assert all(torch.equal(found.tensors[name], value.half()) for name, value in state.items())


def test_a_module_that_was_pickled_whole_gives_its_state(tmp_path):
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    network.register_buffer("scratch", torch.zeros(1), persistent=False)
    torch.save(network, tmp_path / "a.pth")
    found = read_weights(str(tmp_path / "a.pth"), "k")
    assert found.form == "a plain module, pickled as a whole"
    assert found.tensors.keys() == network.state_dict().keys()
    assert torch.equal(found.tensors["0.weight"], network[0].weight)


def test_names_are_those_of_python_3():
    # As protocol 2 writes them, which torch.save uses.
    content = pickle.dumps([set, np.float64(1), Attack(getattr, 1, "real")], protocol=2)
    names = names_in_pickle(io.BytesIO(content))
    assert {"builtins.set", "builtins.getattr"} <= names
    assert not any(name.startswith("__builtin__") for name in names)


def test_placeholders_keep_state_and_do_nothing(tmp_path):
    torch.save({"a": np.float64(2), "b": slice(1, 2), "c": [torch.ones(1)]}, tmp_path / "a.pth")
    content = read_pickled(tmp_path / "a.pth")
    assert isinstance(content["a"], Placeholder)
    assert isinstance(content["b"], Placeholder)
    # A list has no names.
    assert list(tensors_of(content)) == []
