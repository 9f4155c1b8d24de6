"""A request to stop is answered within a validation, too."""

import os
import signal

import pytest
import pytorch_lightning as pl
import torch

from harness.core.process import PreemptedError
from harness.training.resume import ResumePoint


class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer, self.validated = torch.nn.Linear(1, 1), 0

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).mean()

    def validation_step(self, batch, batch_idx):
        self.validated += 1
        if batch_idx == 2:
            os.kill(os.getpid(), signal.SIGUSR1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_stopped_within_a_validation(tmp_path):
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(50, 1)))
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, max_epochs=2, limit_train_batches=2,
        default_root_dir=tmp_path, callbacks=[ResumePoint()],
    )  # fmt: skip
    module, before = Module(), signal.getsignal(signal.SIGUSR1)
    with pytest.raises(PreemptedError):
        trainer.fit(module, data, data)
    assert module.validated == 3
    assert signal.getsignal(signal.SIGUSR1) == before
