"""Checkpoints: atomic, never a pickle, the one before kept."""

import errno

import pytest
import torch

from common.errors import UserError
from common.targets import build_target
from harness.core.run_folder import RunFolder, is_complete_checkpoint
from harness.training.checkpoints import AtomicCheckpointIO, read_ours


def test_the_checkpoint_before_stays(tmp_path):
    folder = RunFolder(tmp_path)
    for number in (1, 2):
        AtomicCheckpointIO().save_checkpoint({"step": number}, folder.checkpoints / "last.ckpt")
    assert torch.load(folder.checkpoints / "last.ckpt")["step"] == 2
    assert torch.load(folder.checkpoints / "last-previous.ckpt")["step"] == 1
    assert len(list(folder.checkpoints.iterdir())) == 2


def truncated(data, weights):
    return data[:-40]


def cut_short(data, weights):
    return data[:200]


def emptied(data, weights):
    return b""


def one_bit_off(data, weights):
    place = data.index(weights)
    return data[:place] + b"\1" + data[place + 1 :]


@pytest.mark.parametrize("damage", [truncated, cut_short, emptied, one_bit_off])
def test_a_damaged_last_checkpoint_falls_back(tmp_path, damage):
    folder = RunFolder(tmp_path)
    for number in (1, 2):
        weights = torch.full((100,), float(number))
        AtomicCheckpointIO().save_checkpoint({"weights": weights}, folder.checkpoints / "last.ckpt")
    last = folder.checkpoints / "last.ckpt"
    last.write_bytes(damage(last.read_bytes(), weights.numpy().tobytes()))
    assert not is_complete_checkpoint(last)
    assert folder.resume_point() == folder.checkpoints / "last-previous.ckpt"


def test_a_full_disk_is_told_as_such(tmp_path, monkeypatch):
    def full(*_):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        finally:
            raise RuntimeError("unexpected pos 1 vs 2")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "last.ckpt")
    assert not list(tmp_path.iterdir())


def test_only_allowed_targets_are_built():
    with pytest.raises(UserError, match="not allowed"):
        build_target({"_target_": "os.system", "command": "true"}, "model")


def test_a_refused_checkpoint_is_one_line_without_advice_to_trust_it(tmp_path):
    torch.save({"quire": print}, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match=r"cannot be loaded as plain tensors \(.*print.*\)") as error:
        read_ours(str(tmp_path / "a.ckpt"), "uosr", "target")
    line = str(error.value)
    assert "\n" not in line
    assert "weights_only" not in line
    assert "safe_globals" not in line
