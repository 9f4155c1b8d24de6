"""A small module and a small world of shapes for it."""

from copy import deepcopy

import pytorch_lightning as pl
import torch

from datamodules.shapes import Shapes
from lightning_modules.neural_dependency.module import NeuralDependency

CLASSES = 8
OPTIONS = {
    "num_classes": CLASSES,
    "in_channels": 3,
    "image_size": 16,
    "network": {"name": "small", "weights": None},
    "train_network": True,
    "source": None,
    "analysis": {
        "alphas": [0.3, 0.03],
        "alpha": 0.03,
        "num_nonzero": 3,
        "tolerance": 1e-3,
        "min_subset": 4,
        "controls": ["untrained", "rotated", "shuffled", "probabilities"],
        "seed": 0,
    },
    "unseen": {"l1": [0.01], "shots": [5], "alpha": 0.01},
    "regularizer": {"kind": "none", "weight": 0.5, "momentum": 0.5, "dependencies": None},
    "test_noise_std": 0.0,
    "wordnet": None,
    "solver": "gram",
    "optimizer": {"name": "adamw", "lr": 3e-3, "weight_decay": 0.01, "momentum": 0.9},
    "warmup_ratio": 0.3,
    "tuner": None,
}


def options(**changes):
    """Return constructor arguments; a dict among the changes changes just the keys it names."""
    merged = deepcopy(OPTIONS)
    for key, value in changes.items():
        merged[key] = merged[key] | value if isinstance(value, dict) and isinstance(merged[key], dict) else value
    return merged


def module_of(seed=0, **changes):
    torch.manual_seed(seed)
    return NeuralDependency(**options(**changes))


def world(**changes):
    sizes = {"train_size": 160, "val_size": 32, "moments_size": 200, "test_size": 120, "unused_size": 60}
    return Shapes(**({"batch_size": 32, "num_classes": CLASSES} | sizes | changes))


class Kept:
    """A logger in place of the run folder's: it keeps tables and pictures."""

    def __init__(self):
        self.tables, self.pictures = {}, {}

    def keep(self, module):
        module.show_table = lambda name, columns, rows: self.tables.update({name: (columns, rows)})
        module.show_picture = lambda name, image, caption="": self.pictures.update({name: image})


def trainer(folder, epochs=2, **changes):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    plain_one = {"accelerator": "cpu", "devices": 1, "max_epochs": epochs, "default_root_dir": str(folder)}
    fixed = {"num_sanity_val_steps": 0, "enable_checkpointing": False}
    return pl.Trainer(**(quiet | plain_one | fixed | changes))
