"""The Inception network that FID and KID are computed with, its weights by path."""

import io
from typing import Any

import torch
from torch import nn
from torchmetrics.image.fid import NoTrainInceptionV3

from common.errors import UserError
from networks.weights.forms import read_weights

_KEY = "model.evaluation.inception"
_WANTED = "torch-fidelity's pt_inception-2015-12-05-6726825d.pth, from the releases of github.com/toshas/torch-fidelity"
FEATURES = 2048


def load_inception(path: str | None) -> nn.Module | None:
    """Return torch-fidelity's Inception, frozen: images uint8 [b, 3, h, w] to features [b, 2048]; None without a path.

    Raises:
        UserError: if the file is not there, or holds the weights of another network.
    """
    if not path:
        return None
    weights = read_weights(path, _KEY, _WANTED)
    # torch-fidelity unpickles whatever the file holds; it gets the tensors alone.
    tensors = io.BytesIO()
    torch.save(dict(weights.tensors), tensors)
    tensors.seek(0)
    try:
        network: Any = NoTrainInceptionV3("inception-v3-compat", [str(FEATURES)], tensors)  # type: ignore[arg-type]
    except RuntimeError:
        raise UserError(f"{_KEY}: {path} is not torch-fidelity's Inception, but {weights.form}") from None
    network.num_features = FEATURES
    return network
