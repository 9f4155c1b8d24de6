"""A small UOSR module and a tiny world of coloured squares for it."""

from copy import deepcopy

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from lightning_modules.uosr.module import UOSR
from lightning_modules.uosr.outputs import outputs_of
from lightning_modules.uosr.scores.few_shot import DEFAULTS as FEW_SHOT
from lightning_modules.uosr.scores.post_hoc import DEFAULTS as POST_HOC

CLASSES = 4
OPTIONS = {
    "tuner": None,
    "num_classes": CLASSES,
    "in_channels": 3,
    "image_size": 8,
    "backbone": {"name": "small", "weights": None, "zero_head": False},
    "objective": "ce",
    "optimizer": {"name": "adamw", "lr": 3e-3, "weight_decay": 0.01, "momentum": 0.9},
    "schedule": {"name": "one_cycle", "warmup_ratio": 0.3, "warmup_steps": 2, "milestones": [6, 8], "gamma": 0.1},
    "oe": {"weight": 0.5},
    "energy": {"weight": 0.01, "m_in": -25.0, "m_out": -5.0},
    "vos": {"weight": 0.1, "start_fraction": 0.2, "queue_size": 4, "num_candidates": 50, "select": 1},
    "lc": {"hidden": [8, 8], "weight": 0.1, "budget": 0.3, "hints": 0.5},
    "tcp": {"hidden": [8, 8], "ce_fraction": 0.5},
    "bce": {"hidden": [8, 8], "weight": 1.0},
    "proser": {"alpha": 1.0, "data_weight": 0.01, "classifier_weight": 1.0, "ce_fraction": 0.5},
    "post_hoc": POST_HOC,
    "few_shot": FEW_SHOT,
    "shots": [1, 2],
}
OBJECTIVES = ("ce", "oe", "energy", "eb", "vos", "lc", "tcp", "bce", "proser")


def options(objective="ce", **changes):
    """Return constructor arguments; a dict among the changes changes just the keys it names."""
    merged = deepcopy(OPTIONS) | {"objective": objective}
    for key, value in changes.items():
        merged[key] = merged[key] | value if isinstance(value, dict) else value
    return merged


def built(objective="ce", seed=0, **changes):
    """Return a module with its networks, its weights drawn from the seed."""
    torch.manual_seed(seed)
    module = UOSR(**options(objective, **changes))
    module.configure_model()
    return module


def batch(size=16, seed=0, outliers=True):
    """Return a training batch of noise whose mean tells the class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(size) % CLASSES
    images = 0.5 * torch.randn(size, 3, 8, 8, generator=generator) + labels[:, None, None, None] / 2
    made = {"image": images, "label": labels, "index": torch.arange(size)}
    return made | ({"outlier": torch.randn(size, 3, 8, 8, generator=generator)} if outliers else {})


class Squares(torch.utils.data.Dataset):
    def __init__(self, size, seed, classes=range(CLASSES)):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.arange(size) % len(classes)
        centres = torch.tensor(list(classes), dtype=torch.float32)[self.labels] / 2
        self.images = 0.6 * torch.randn(size, 3, 8, 8, generator=generator) + centres[:, None, None, None]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"image": self.images[index], "label": self.labels[index], "index": index}


class Fit(torch.utils.data.Dataset):
    """Known images with an outlier beside each."""

    def __init__(self):
        self.known, self.outliers = Squares(96, 1), Squares(96, 2, range(6, 9))

    def __len__(self):
        return 96

    def __getitem__(self, index):
        return self.known[index] | {"outlier": self.outliers.images[index]}


LENGTHS = {"train": 96, "known": 41, "unknown": 37, "references": 18}


class World(pl.LightningDataModule):
    """6 batches of 16, and test splits whose lengths no batch size or number of processes divides."""

    ood_names = ("unknown",)
    reference_ood = "unknown"
    test_names = ("train", "known", "unknown", "references")

    def train_dataloader(self):
        order = torch.Generator().manual_seed(0)
        return DataLoader(Fit(), 16, shuffle=True, generator=order, drop_last=True)

    def val_dataloader(self):
        return DataLoader(Squares(33, 3), 16)

    def test_dataloader(self):
        unknown = range(4, 7)
        seeds = {"train": 1, "known": 4, "unknown": 5, "references": 6}
        classes = {"train": range(CLASSES), "known": range(CLASSES), "unknown": unknown, "references": unknown}
        return [DataLoader(Squares(LENGTHS[name], seeds[name], classes[name]), 16) for name in self.test_names]


def trainer(folder, epochs=2, **changes):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    plain = {"accelerator": "cpu", "devices": 1, "max_epochs": epochs, "default_root_dir": str(folder)}
    fixed = {"num_sanity_val_steps": 0, "enable_checkpointing": False, "inference_mode": False}
    return pl.Trainer(**(quiet | plain | fixed | changes))


def stored_outputs(path):
    """Return the outputs that a test run stored in a file."""
    with np.load(path, allow_pickle=False) as file:
        return outputs_of({name.removeprefix("extra_"): torch.from_numpy(file[name]) for name in file.files})
