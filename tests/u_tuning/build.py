"""A small U-Tuning module, and digits of noise for it."""

from copy import deepcopy

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from harness.config.compose import options, plain
from harness.config.load import load
from lightning_modules.u_tuning.module import UTuning

CLASSES = 4
TUNERS = [name for name in options("tuner") if name != "none"]
OPTIONS = {
    "num_classes": CLASSES,
    "in_channels": 1,
    "image_size": 16,
    "backbone": {"name": "glyph_vit", "weights": None},
    "optimizer": {"name": "adamw", "lr": 1e-3, "weight_decay": 0.01, "momentum": 0.9},
    "schedule": {"warmup_ratio": 0.1},
    "label_smoothing": 0.0,
    "head_dropout": 0.0,
    "merge": False,
}


def tuner_config(name):
    """Return a tuner's node as its file says."""
    return plain(load(["experiment=uosr", f"tuner={name}"]))["tuner"] if name else None


def module_of(tuner=None, seed=0, **changes):
    """Return a module with a tuner by name; its networks are not built yet."""
    torch.manual_seed(seed)
    return UTuning(**(deepcopy(OPTIONS) | changes), tuner=tuner_config(tuner))


class Noise(torch.utils.data.Dataset):
    """Images of noise whose upper or lower, left or right half is bright."""

    def __init__(self, size, seed):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.arange(size) % CLASSES
        self.images = 0.5 * torch.rand(size, 1, 16, 16, generator=generator)
        for image, label in zip(self.images, self.labels, strict=True):
            half = image[0] if label < 2 else image[0].T
            half[:8] += 0.5 * (label % 2)
            half[8:] += 0.5 * (1 - label % 2)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"image": self.images[index], "label": self.labels[index], "index": index}


class World(pl.LightningDataModule):
    test_names = ("test",)

    def train_dataloader(self):
        return DataLoader(Noise(64, 1), 16, shuffle=True, generator=torch.Generator().manual_seed(0), drop_last=True)

    def val_dataloader(self):
        return DataLoader(Noise(18, 2), 16)

    def test_dataloader(self):
        return DataLoader(Noise(37, 3), 16)


def trainer(folder, epochs=2, **changes):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    plain_one = {"accelerator": "cpu", "devices": 1, "max_epochs": epochs, "default_root_dir": str(folder)}
    fixed = {"num_sanity_val_steps": 0, "enable_checkpointing": False}
    return pl.Trainer(**(quiet | plain_one | fixed | changes))
