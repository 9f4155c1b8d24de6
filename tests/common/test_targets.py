"""Only a class of the right kind, defined at its home, is built by a config's target."""

import json

import pytest
import pytorch_lightning as pl

from common.errors import UserError
from common.targets import KINDS, build_target, target_class

HEADS = "datamodules.heads.RenderedHeads"


@pytest.mark.parametrize(
    ("key", "target", "line"),
    [
        ("model", "os.system", r"model._target_: 'os.system' is not allowed: the target of a LightningModule"),
        ("model", HEADS, "starts with lightning_modules."),
        ("data", "tuners.full.Full", "the target of a LightningDataModule starts with datamodules."),
        # Names that a module at home merely imports.
        ("model", "lightning_modules.base.json.loads", "there is no"),
        ("model", "lightning_modules.trained_run.target_class", "is not a LightningModule of"),
        ("model", "lightning_modules.base.pl.LightningModule", "there is no"),
        ("model", "lightning_modules.base.Tuner", "is not a LightningModule of"),
        ("model", "lightning_modules.base.Findings", "is not a LightningModule of"),
        ("data", "datamodules.base.Batch", "is not a LightningDataModule of"),
        ("data", "datamodules.base.DataLoader", "is not a LightningDataModule of"),
        ("tuner", "tuners.full.nn.Linear", "there is no"),
        ("callbacks.own", "harness.training.resume.seed_generators", "is not a callback of"),
        ("callbacks.own", "harness.core.process.leave", "is not allowed"),
        ("callbacks.own", "harness.training.run_log.RunLog", "is not a callback of"),
        ("logger.own", "pytorch_lightning.loggers.csv_logs.os.remove", "there is no"),
        ("logger.own", "pytorch_lightning.loggers.Nothing", "there is no"),
        ("model", "lightning_modules.no_such.Module", "there is no"),
        ("model", "None", "is not allowed"),
    ],
)
def test_what_a_target_cannot_be(key, target, line):
    with pytest.raises(UserError, match=line) as caught:
        build_target({"_target_": target}, key)
    assert len(caught.value.lines) == 1


def test_the_kinds_are_what_a_config_builds():
    assert target_class(HEADS, "data").__name__ == "RenderedHeads"
    assert target_class("tuners.full.Full", "tuner").__name__ == "Full"
    # Re-exported within its home: the library's own public name.
    checkpoint = build_target(
        {"_target_": "pytorch_lightning.callbacks.ModelCheckpoint"}, "callbacks.best", dirpath="x"
    )
    assert isinstance(checkpoint, pl.callbacks.ModelCheckpoint)
    assert str(checkpoint.dirpath).endswith("x")
    assert set(KINDS) == {"model", "data", "tuner", "callbacks", "logger"}


def test_values_are_refused_in_one_line_with_their_key():
    with pytest.raises(UserError, match=r"^callbacks.best: .*save_top_k"):
        build_target(
            {"_target_": "pytorch_lightning.callbacks.ModelCheckpoint", "monitor": "x", "save_top_k": -5},
            "callbacks.best",
        )


def test_a_lock_file_reaches_no_other_callable(tmp_path):
    import torch

    from lightning_modules.trained_run import load_classifier

    (tmp_path / "checkpoints").mkdir()
    torch.save({"hyper_parameters": {"command": "true"}}, tmp_path / "checkpoints" / "best.ckpt")
    for target in ("os.system", "lightning_modules.trained_run.target_class"):
        (tmp_path / "lock.json").write_text(json.dumps({"config": {"model": {"_target_": target}}}))
        with pytest.raises(UserError, match=r"model\._target_"):
            load_classifier(tmp_path)
