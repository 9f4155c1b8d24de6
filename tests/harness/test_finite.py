"""A loss that is no number stops the training, or is let pass."""

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, default_collate

from harness.training.finite_loss import FiniteLoss, NotFiniteError


class Breaks(pl.LightningModule):
    """Its loss is nan in its third batch."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch["x"]).mean() * (float("nan") if batch_idx == 2 else 1.0)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(folder, **options):
    samples = [{"x": torch.ones(2) * k, "index": k} for k in range(10)]
    trainer = pl.Trainer(
        default_root_dir=folder,
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[FiniteLoss(str(folder), **options)],
    )
    module = Breaks()
    trainer.fit(module, DataLoader(samples, batch_size=2, collate_fn=default_collate))
    return module


def test_it_stops_before_the_step_and_keeps_weights_and_batch(tmp_path):
    with pytest.raises(NotFiniteError, match=r"nan at step 2 \(epoch 0, batch 2, samples \[4, 5\]\).*not-finite-0.pt"):
        fit(tmp_path)
    kept = torch.load(tmp_path / "not-finite-0.pt", weights_only=True)
    assert kept["step"] == 2
    assert kept["batch"]["index"].tolist() == [4, 5]
    assert all(value.isfinite().all() for value in kept["state_dict"].values())


def test_it_goes_on_if_told_to(tmp_path):
    module = fit(tmp_path, allow_nonfinite=True)
    assert not module.layer.weight.isfinite().all()
    assert not list(tmp_path.glob("*.pt"))
