"""The loss of the inverse renderer: both hypotheses have to reconstruct a real image (geod §2.4)."""

import math
from typing import Literal, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import vgg16

from common.errors import UserError
from common.pixel_statistics import IMAGENET_MEAN, IMAGENET_STD
from common.ranges import NonNegativeFloat
from lightning_modules.geod.inverse.renderer import ScenePrediction
from networks.distributed import mean_over_mask
from networks.weights.fitting import fit
from networks.weights.forms import read_weights

_KEY = "model.inverse_loss.vgg_weights"
_WANTED = "torchvision's vgg16-397923af.pth, from https://download.pytorch.org/models"
_EPS = 1e-7
# Up to relu3_3.
_LAYERS = 16


class InverseLossOptions(TypedDict):
    """Terms of the loss.

    `flip_weight`: weight of the mirrored hypothesis. `perceptual`: features that are compared too: "none", those of a
    VGG16 with "random" weights, or of "vgg16" with ImageNet's, which are in the file `vgg_weights` (torchvision's).
    `perceptual_weight`: their weight. `smoothness`: weight of the canonical depth's second differences.
    """

    flip_weight: NonNegativeFloat
    perceptual: Literal["none", "random", "vgg16"]
    perceptual_weight: NonNegativeFloat
    vgg_weights: str | None
    smoothness: NonNegativeFloat


class PerceptualFeatures(nn.Module):
    """VGG16 up to relu3_3, frozen: images in -1..1 to maps [b, 256, h/4, w/4].

    Raises:
        UserError: if the weights are missing.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, options: InverseLossOptions) -> None:
        super().__init__()
        path = options["vgg_weights"]
        if options["perceptual"] == "vgg16" and not path:
            raise UserError(f"{_KEY} is null; expected {_WANTED}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = vgg16(weights=None)
        if options["perceptual"] == "vgg16":
            fit(network, read_weights(str(path), _KEY, _WANTED), f"{_KEY}: {path} is not torchvision's VGG16")
        self.layers = network.features[:_LAYERS].requires_grad_(False).eval()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 256 h/4 w/4"]:
        """Return the features."""
        return self.layers((image / 2 + 0.5 - self.mean) / self.deviation)


def build_features(options: InverseLossOptions) -> PerceptualFeatures | None:
    """Return the features that are compared, None for none."""
    return None if options["perceptual"] == "none" else PerceptualFeatures(options)


def photometric_loss(
    one: Float[Tensor, "b c h w"],
    other: Float[Tensor, "b c h w"],
    mask: Float[Tensor, "b 1 h w"],
    deviation: Float[Tensor, "b 1 h w"],
) -> Float[Tensor, ""]:
    """Return the mean over the mask, in the global batch, of a Laplace likelihood's negative logarithm."""
    loss = math.sqrt(2) * (one - other).abs() / (deviation + _EPS) + (deviation + _EPS).log()
    return mean_over_mask(loss, mask.expand_as(loss))


def feature_loss(
    one: Float[Tensor, "b d h w"],
    other: Float[Tensor, "b d h w"],
    mask: Float[Tensor, "b 1 s s"],
    deviation: Float[Tensor, "b 1 h w"],
) -> Float[Tensor, ""]:
    """Return the same with features and a Gaussian likelihood; the mask is averaged to the features' size."""
    loss = (one - other).square() / (2 * deviation.square() + _EPS) + (deviation + _EPS).log()
    mask = functional.adaptive_avg_pool2d(mask, (loss.shape[-2], loss.shape[-1])).expand_as(loss)
    return mean_over_mask(loss, mask)


def roughness(depth: Float[Tensor, "n h w"]) -> Float[Tensor, ""]:
    """Return the mean absolute second differences of depth maps, summed over both directions."""
    return depth.diff(n=2, dim=1).abs().mean() + depth.diff(n=2, dim=2).abs().mean()


def inverse_loss(
    prediction: ScenePrediction, options: InverseLossOptions, features: nn.Module | None = None
) -> Float[Tensor, ""]:
    """Return the loss of what was predicted from real images.

    Args:
        prediction: what was predicted.
        options: see `InverseLossOptions`.
        features: the network of `build_features`.
    """
    mask = prediction.shape.valid[:, None]
    total = options["smoothness"] * roughness(prediction.shape.canonical[: len(mask)])
    target = None if features is None else features(prediction.image)
    weights = (1.0, options["flip_weight"])
    for k, (weight, reconstruction) in enumerate(zip(weights, prediction.reconstruction.chunk(2), strict=True)):
        loss = photometric_loss(reconstruction, prediction.image, mask, prediction.pixel_deviation[:, [k]])
        if features is not None and target is not None:
            perceptual = feature_loss(features(reconstruction), target, mask, prediction.feature_deviation[:, [k]])
            loss = loss + options["perceptual_weight"] * perceptual
        total = total + weight * loss
    return total
