"""A tuned classifier as a plain checkpoint of timm, where the tuner has a plain form."""

import copy
from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from networks.backbones import classifier_name
from tuners.tuner import Tuner


def export_merged(tuner: Tuner, head: nn.Linear, file: Path) -> None:
    """Write backbone, tuner and head as one plain state dict, in which no trace of the tuner is left.

    Args:
        tuner: an attached tuner that can merge; it and its backbone stay as they are.
        head: the linear classifier, stored under the name that the backbone's library gives its own.
        file: a `.safetensors` file.

    Raises:
        UserError: if the tuner has no plain form.
    """
    # Merging changes the weights, so a copy is merged; the copied tuner holds the copied backbone.
    weights = dict(copy.deepcopy(tuner).merge_().state_dict())
    name = classifier_name(tuner.backbone)
    weights |= {f"{name}.weight": head.weight, f"{name}.bias": head.bias}
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.detach().cpu().contiguous() for key, value in weights.items()}, file)
