"""Builds the base and reads its weights; all of it is frozen."""

from pathlib import Path
from typing import cast

import torch

from common.errors import UserError
from lightning_modules.cones.base_model import SmallTextToImage, TextToImage
from lightning_modules.cones.options import BaseOptions
from networks.weights.forms import read_weights

_KEY = "model.base.weights"


def build_base(options: BaseOptions, image_size: int) -> TextToImage:
    """Return the base, untrained if it is a small one.

    Raises:
        UserError: if the options make no base, or the folder is none of diffusers.
    """
    if options["name"] == "small":
        if options["small"] is None:
            raise UserError("model.base.small is null: a small base needs its options")
        model = SmallTextToImage(image_size, options["small"])
        model.requires_grad_(False).eval()
        return model
    if options["weights"] is None:
        raise UserError(f"{_KEY} is null: give the folder of a diffusers pipeline, with unet/, vae/ and so on")
    # Here, so that only paper-scale runs pay for the import.
    from lightning_modules.cones.stable_diffusion import StableDiffusion

    return StableDiffusion(Path(options["weights"]))


def load_base(model: TextToImage, options: BaseOptions) -> None:
    """Load the averaged weights of a checkpoint of cones_pretrain into a small base; a folder's are loaded already.

    Raises:
        UserError: if the file is missing, or holds another model.
    """
    if options["name"] != "small":
        return
    if options["weights"] is None:
        raise UserError(f"{_KEY} is null: give a checkpoint of cones_pretrain, or run:experiment=cones_pretrain")
    weights = read_weights(options["weights"], _KEY)
    prefix = "average.module."
    averaged = {
        name.removeprefix(prefix): tensor
        for name, tensor in weights.content.get("state_dict", {}).items()
        if name.startswith(prefix)
    }
    try:
        cast(torch.nn.Module, model).load_state_dict(averaged)
    except RuntimeError as error:
        raise UserError(
            f"{_KEY}: {options['weights']} is not the base of model.base.small: {str(error).splitlines()[1].strip()}"
        ) from None
