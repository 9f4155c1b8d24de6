"""A classifier that an earlier run of this project has trained, whatever its paper, backbone and tuner."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lightning_modules.neural_dependency.networks import Classifier, NetworkError


def run_of(weights: str) -> Path:
    """Return the folder of a run from that folder or from a checkpoint in it.

    Raises:
        NetworkError: if it is neither.
    """
    path = Path(weights)
    folder = path if path.is_dir() else path.parent.parent
    missing = [name for name in ("lock.json", "checkpoints/best.ckpt") if not (folder / name).is_file()]
    if missing:
        raise NetworkError(f"model.network.weights: {weights} is no finished run, {folder} has no {missing[0]}")
    return folder


def load_run(weights: str | None, num_classes: int) -> Classifier:
    """Return backbone, tuner included, and linear head of a run, in eval mode and frozen.

    Args:
        weights: the run's folder, or a checkpoint in it.
        num_classes: number K of logits that are wanted.

    Raises:
        NetworkError: if there is no such run, it trained no linear head, or one of another number of categories.
    """
    if weights is None:
        raise NetworkError("model.network.weights: name the run's folder, as model.network.name is run")
    folder = run_of(weights)
    checkpoint = torch.load(folder / "checkpoints" / "best.ckpt", map_location="cpu", weights_only=True)
    target = json.loads((folder / "lock.json").read_text())["config"]["model"]["_target_"]
    place, name = target.rsplit(".", 1)
    module: Any = getattr(import_module(place), name)(**checkpoint["hyper_parameters"])
    module.configure_model()
    # With a tuner the checkpoint leaves out what it shares with a file, and puts it in here.
    module.on_load_checkpoint(checkpoint)
    head = getattr(getattr(module, "network", module), "head", None)
    if not isinstance(head, nn.Linear):
        raise NetworkError(f"model.network.weights: {folder} trained no linear head ({name}), so f = W z + b fails")
    if head.out_features != num_classes:
        raise NetworkError(f"model.network.weights: {folder} knows {head.out_features} categories, not {num_classes}")
    module.load_state_dict(checkpoint["state_dict"])
    module.requires_grad_(False).eval()
    return Classifier(module.tunable, head)
