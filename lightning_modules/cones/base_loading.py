"""Builds the base and reads its weights; all of it is frozen."""

from common.errors import UserError
from lightning_modules.cones.base_model import SmallTextToImage
from lightning_modules.cones.options import BaseOptions
from networks.weights.forms import read_weights

_KEY = "model.base.weights"


def build_base(options: BaseOptions, image_size: int) -> SmallTextToImage:
    """Return the base, untrained."""
    model = SmallTextToImage(image_size, options["small"])
    model.requires_grad_(False).eval()
    return model


def load_base(model: SmallTextToImage, options: BaseOptions) -> None:
    """Load the averaged weights of a checkpoint of cones_pretrain.

    Raises:
        UserError: if the file is missing, or holds another model.
    """
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
        model.load_state_dict(averaged)
    except RuntimeError as error:
        raise UserError(
            f"{_KEY}: {options['weights']} is not the base of model.base.small: {str(error).splitlines()[1].strip()}"
        ) from None
