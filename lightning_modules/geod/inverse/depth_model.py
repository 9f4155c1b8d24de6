"""Geometry from a pre-trained depth model instead of an inverse renderer (geod §2.7).

Scenes are not symmetric objects, so the paper cannot have predicted rooms with its inverse renderer: our choice.
"""

from pathlib import Path
from typing import Literal, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from common.errors import UserError, first_reason
from common.pixel_statistics import IMAGENET_MEAN, IMAGENET_STD
from common.ranges import FieldOfView, PositiveFloat, PositiveInt
from lightning_modules.geod.inverse.renderer import Shape
from networks.cameras import focal_length, normals_of_depth
from networks.precision import single_precision


class PretrainedOptions(TypedDict):
    """A depth model of transformers.

    `path`: its folder, or null for none. `output`: "depth", or "disparity" (DPT, Depth Anything), which is known up to
    scale and shift. Its smallest and largest are mapped to `min_depth` and `max_depth`. `size`: side of the images that
    it sees. `fov`: of the camera that its depth is taken to be of, in degrees.
    """

    path: str | None
    output: Literal["depth", "disparity"]
    min_depth: PositiveFloat
    max_depth: PositiveFloat
    size: PositiveInt
    fov: FieldOfView


class PretrainedGeometry(nn.Module):
    """A frozen depth model with the interface of the inverse renderer.

    Args:
        options: see `PretrainedOptions`.
        size: side of the predicted depth and normals.

    Raises:
        UserError: if there is no such model.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, options: PretrainedOptions, size: int) -> None:
        super().__init__()
        path = options["path"]
        if not path or not (Path(path) / "config.json").is_file():
            raise UserError(
                f"model.pretrained.path: no depth model at {path}; expected a folder of transformers with config.json"
                " and model.safetensors"
            )
        from transformers import AutoModelForDepthEstimation

        self.options, self.size = options, size
        self.focal = focal_length(size, options["fov"])
        try:
            self.network = AutoModelForDepthEstimation.from_pretrained(path, local_files_only=True).eval()
        except Exception as error:  # noqa: BLE001 - transformers raises any kind for a folder of another model
            raise UserError(f"model.pretrained.path: {path} is no depth model: {first_reason(error)}") from None
        self.requires_grad_(False)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    def predict_shape(self, image: Float[Tensor, "b 3 h w"]) -> Shape:
        """Predict depth and normals of images in -1..1; the input keeps its gradient."""
        side = (self.options["size"],) * 2
        inputs = functional.interpolate(image.float(), side, mode="bilinear", align_corners=False, antialias=True)
        with single_precision(image):
            output = self.network((inputs / 2 + 0.5 - self.mean) / self.deviation).predicted_depth
        side = (self.size, self.size)
        output = functional.interpolate(output[:, None], side, mode="bilinear", align_corners=False)[:, 0]
        low, high = output.amin(dim=(1, 2), keepdim=True), output.amax(dim=(1, 2), keepdim=True)
        share = (output - low) / (high - low).clamp_min(1e-6)
        near, far = self.options["min_depth"], self.options["max_depth"]
        if self.options["output"] == "disparity":
            depth = 1 / (1 / far + share * (1 / near - 1 / far))
        else:
            depth = near + share * (far - near)
        valid = torch.ones_like(depth)
        turn = torch.eye(3, device=depth.device).expand(len(depth), 3, 3)
        return Shape(depth, depth, valid, normals_of_depth(depth, self.focal), turn, depth.new_zeros(len(depth), 3))
