"""Which batches a real Trainer hands to training, straight through and over a restart."""

import warnings

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from datamodules.base import BaseDataModule
from datamodules.memory import Images

SIZE, BATCH, EPOCHS = 22, 4, 3
BATCHES = SIZE // BATCH


class Numbers(BaseDataModule):
    image_shape = (1, 1, 1)
    beside = ("outlier",)

    def __init__(self, workers):
        super().__init__(batch_size=BATCH, num_workers=workers, seed=5)

    def source(self, name):
        size = 7 if name == "outlier" else SIZE
        return Images(np.arange(size, dtype=np.uint8).reshape(-1, 1, 1, 1), np.zeros(size))


class Listener(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen, self.validated = [], 0

    def training_step(self, batch, batch_idx):
        outliers = ((batch["outlier"].flatten() + 1) * 127.5).round().int().tolist()
        self.seen.append((self.trainer.current_epoch, batch_idx, batch["index"].tolist(), outliers))
        return self.layer(batch["image"].flatten(1)).mean()

    def validation_step(self, batch, batch_idx):
        self.validated += len(batch["index"])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class SaveAt(pl.Callback):
    def __init__(self, path, hook, at):
        self.path, self.hook, self.at = path, hook, at

    def _save(self, trainer, hook, batch):
        if hook == self.hook and (trainer.current_epoch, batch) == self.at:
            trainer.save_checkpoint(self.path)

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self._save(trainer, "batch", batch_idx)

    def on_validation_end(self, trainer, module):
        self._save(trainer, "validation", 0)

    def on_train_epoch_end(self, trainer, module):
        self._save(trainer, "epoch", 0)


def fit(tmp_path, workers=0, callbacks=(), ckpt=None, limit=None):
    module = Listener()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            max_epochs=EPOCHS, callbacks=list(callbacks), accelerator="cpu", devices=1, logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
            default_root_dir=tmp_path, use_distributed_sampler=False, limit_train_batches=limit,
        )  # fmt: skip
        trainer.fit(module, datamodule=Numbers(workers), ckpt_path=ckpt, weights_only=True if ckpt else None)
    return module.seen


def test_every_epoch_has_an_order_of_its_own_and_the_length_of_the_known(tmp_path):
    seen = fit(tmp_path)
    assert [(epoch, batch) for epoch, batch, *_ in seen] == [(e, b) for e in range(EPOCHS) for b in range(BATCHES)]
    orders = [[row[2] for row in seen if row[0] == epoch] for epoch in range(EPOCHS)]
    assert orders[0] != orders[1] != orders[2]
    assert seen == fit(tmp_path, workers=2)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("hook", "at", "begin"),
    [
        ("batch", (0, 2), 2),
        ("batch", (1, 0), BATCHES),
        ("batch", (1, 3), BATCHES + 3),
        ("batch", (2, 4), 2 * BATCHES + 4),
        ("validation", (1, 0), 2 * BATCHES),
        ("epoch", (1, 0), 2 * BATCHES),
    ],
)
def test_a_restarted_training_sees_the_rest_of_the_batches(tmp_path, workers, hook, at, begin):
    path = tmp_path / "point.ckpt"
    straight = fit(tmp_path, workers=0, callbacks=[SaveAt(path, hook, at)])
    assert path.exists()
    resumed = fit(tmp_path, workers=workers, ckpt=path)
    assert [row[2:] for row in resumed] == [row[2:] for row in straight[begin:]]


def test_a_restart_counts_in_shortened_epochs(tmp_path):
    path = tmp_path / "point.ckpt"
    straight = fit(tmp_path, callbacks=[SaveAt(path, "validation", (0, 0))], limit=3)
    assert len(straight) == 3 * EPOCHS
    assert [row[2:] for row in fit(tmp_path, ckpt=path, limit=3)] == [row[2:] for row in straight[3:]]


def test_the_position_of_a_checkpoint_that_is_tested_does_not_move_training():
    data, trainer = Numbers(0), pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", devices=1)
    data.trainer = trainer
    trainer.state.fn = "test"
    data.load_state_dict({"epoch": 1, "batch": 3})
    assert data.state_dict() == {"epoch": 0, "batch": 0}
    assert len(list(data.train_dataloader())) == BATCHES
    trainer.state.fn = "fit"
    data.load_state_dict({"epoch": 1, "batch": 3})
    assert len(list(data.train_dataloader())) == BATCHES - 3
    assert len(list(data.train_dataloader())) == BATCHES
