"""A tiny base, data and options for the tests of Cones."""

from copy import deepcopy
from functools import cache

import torch

from datamodules.subject_scenes import SubjectPictures
from harness.config.compose import composed
from lightning_modules.cones.base_model import SmallTextToImage
from lightning_modules.cones.module import Cones


@cache
def _values(experiment: str) -> dict:
    return composed([f"experiment={experiment}"]).values["model"]


def options_of(experiment: str, **changed: object) -> dict:
    """Return the constructor's options of an experiment, some of them changed one level down."""
    options = {name: value for name, value in deepcopy(_values(experiment)).items() if not name.startswith("_")}
    for name, value in changed.items():
        options[name] = options[name] | value if isinstance(value, dict) else value
    return options


def awake(model: SmallTextToImage, seed: int = 0) -> SmallTextToImage:
    """Give the last layer weights: a new U-Net's prediction is zero."""
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        model.network.unet.conv_out.weight.normal_(0, 0.05)
    return model


def module_of(**changed: object) -> Cones:
    """Return a module with a random base."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Cones(**options_of("cones", **changed))
        module.configure_model()
    awake(module.base)
    return module


def data_of(**changed: object) -> SubjectPictures:
    """Return the pictures of a subject in few and small batches."""
    return SubjectPictures(**({"batch_size": 4, "iterations": 3} | changed))
