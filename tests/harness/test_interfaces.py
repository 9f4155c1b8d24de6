"""What the harness expects of modules and data is what their base classes have, and anything else is refused."""

import pytest
import pytorch_lightning as pl

from common.errors import UserError
from datamodules.base import BaseDataModule
from harness.run.build import build_data, build_module
from harness.training.interfaces import (
    ExperimentData,
    ExperimentModule,
    Finishing,
    Rewindable,
    Summarizing,
    missing_members,
)
from harness.training.run_log import RunLog
from harness.training.wandb_mirror import WandbMirror
from lightning_modules.base import BasePaper


def test_the_base_classes_conform():
    assert missing_members(BasePaper(), ExperimentModule) == []
    assert missing_members(BaseDataModule(batch_size=1, num_workers=0, seed=0), ExperimentData) == []


def test_members_of_an_object_count():
    class OwnData(BaseDataModule):
        fingerprint = property()

    data = OwnData(batch_size=1, num_workers=0, seed=0)
    assert missing_members(data, ExperimentData) == []
    lacking = set(missing_members(object(), ExperimentModule))
    assert {"tuner", "has_training", "start_from", "generate"} <= lacking


def test_a_module_or_data_without_what_the_harness_expects_is_refused(monkeypatch):
    for home, parent in (("lightning_modules", pl.LightningModule), ("datamodules", pl.LightningDataModule)):
        plain = type("Plain", (parent,), {"__module__": f"{home}.base"})
        monkeypatch.setattr(f"{home}.base.Plain", plain, raising=False)
    config = {
        "model": {"_target_": "lightning_modules.base.Plain"},
        "data": {"_target_": "datamodules.base.Plain"},
        "hardware": {"strategy": "auto"},
        "mode": "fit",
    }
    with pytest.raises(UserError, match=r"model._target_: .* lacks .*start_from.*: derive it from lightning_modules"):
        build_module(config)
    with pytest.raises(UserError, match=r"data._target_: .* lacks check, .*: derive it from datamodules"):
        build_data(config)


def test_loggers_say_what_they_can(tmp_path):
    rows, mirror = RunLog(str(tmp_path)), WandbMirror(str(tmp_path), "quire")
    assert isinstance(rows, Rewindable)
    assert not isinstance(rows, Summarizing | Finishing)
    assert isinstance(mirror, Summarizing)
    assert isinstance(mirror, Finishing)
    assert not isinstance(mirror, Rewindable)
