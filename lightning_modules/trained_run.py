"""What an earlier run of this project has trained, whatever its paper: backbone and head from its folder alone."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from common.pixel_statistics import Statistics
from common.renamed_keys import with_present_names
from common.targets import target_class
from networks.weights.forms import read_weights


class TrainedClassifier(NamedTuple):
    """The classifier of a run, frozen and in eval mode.

    Attributes:
        paper: name of the LightningModule that trained it.
        backbone: images to features, tuner included; None without a linear head.
        head: the linear head, or None where the run trained none.
        normalization: mean and deviation, of images in 0..1, of what it was trained on; None for images in -1..1.
    """

    paper: str
    backbone: nn.Module | None
    head: nn.Linear | None
    normalization: Statistics | None


def load_classifier(folder: Path) -> TrainedClassifier:
    """Rebuild the LightningModule of a finished run with its best weights, and return what classifies in it."""
    checkpoint: Any = read_weights(str(folder / "checkpoints" / "best.ckpt"), "model.network.weights").content
    target = json.loads((folder / "lock.json").read_text())["config"]["model"]["_target_"]
    module: Any = target_class(target, "model")(**with_present_names(checkpoint["hyper_parameters"], target))
    module.configure_model()
    # With a tuner the checkpoint leaves out what it shares with a file, and puts it in here.
    module.on_load_checkpoint(checkpoint)
    head = getattr(getattr(module, "network", module), "head", None)
    if not isinstance(head, nn.Linear):
        return TrainedClassifier(type(module).__name__, None, None, None)
    module.load_state_dict(checkpoint["state_dict"])
    module.requires_grad_(False).eval()
    return TrainedClassifier(type(module).__name__, module.tunable, head, module.normalization)
