"""A classifier that an earlier run of this project has trained, whatever its paper, backbone and tuner."""

from pathlib import Path

from common.errors import UserError
from lightning_modules.neural_dependency.networks import Classifier
from lightning_modules.trained_run import load_classifier


def run_of(weights: str) -> Path:
    """Return the folder of a run from that folder or from a checkpoint in it.

    Raises:
        UserError: if it is neither.
    """
    path = Path(weights)
    folder = path if path.is_dir() else path.parent.parent
    missing = [name for name in ("lock.json", "checkpoints/best.ckpt") if not (folder / name).is_file()]
    if missing:
        raise UserError(f"model.network.weights: {weights} is no finished run, {folder} has no {missing[0]}")
    return folder


def load_run(weights: str | None, num_classes: int) -> Classifier:
    """Return backbone, tuner included, and linear head of a run, in eval mode and frozen.

    Args:
        weights: the run's folder, or a checkpoint in it.
        num_classes: number K of logits that are wanted.

    Raises:
        UserError: if there is no such run, it trained no linear head, or one of another number of categories.
    """
    if weights is None:
        raise UserError("model.network.weights: name the run's folder, as model.network.name is run")
    folder = run_of(weights)
    trained = load_classifier(folder)
    if trained.backbone is None or trained.head is None:
        raise UserError(
            f"model.network.weights: {folder} trained no linear head ({trained.paper}), so f = W z + b fails"
        )
    known = trained.head.out_features
    if known != num_classes:
        raise UserError(f"model.network.weights: {folder} knows {known} categories, not {num_classes}")
    return Classifier(trained.backbone, trained.head, trained.normalization)
