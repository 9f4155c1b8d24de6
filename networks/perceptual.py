"""Distances between images in the features of a VGG16, whose weights are a file."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import vgg16

from common.pixel_statistics import IMAGENET_MEAN, IMAGENET_STD
from networks.weights.fitting import fit
from networks.weights.forms import read_weights

# Indices of relu1_2, relu2_2, relu3_3 and relu4_3.
_RELUS = (3, 8, 15, 22)
MIN_SIDE = 16
"""Smallest images: the deepest feature maps have an eighth of their side."""
MAX_SIDE = 256
"""Larger images are averaged to this size, as in stylegan2-ada-pytorch's projector: VGG16 was trained on 224 pixels."""


class PerceptualDistance(nn.Module):
    """Squared distance of images in four layers of a frozen VGG16, features of each position having length one.

    The form of LPIPS (Zhang et al. 2018) without its learned weights of channels.

    Args:
        path: torchvision's vgg16-397923af.pth.
        key: what names the file, for errors.

    Raises:
        UserError: if the file is missing or holds another network.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, path: str, key: str) -> None:
        super().__init__()
        weights = read_weights(path, key)
        network = vgg16(weights=None)
        fit(network, weights, f"{key}: {path} is not torchvision's VGG16")
        self.layers = network.features[: _RELUS[-1] + 1].requires_grad_(False).eval()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    def features(self, image: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Return the normalized feature maps of images in -1..1."""
        if image.shape[-1] > MAX_SIDE:
            image = functional.interpolate(image, size=(MAX_SIDE, MAX_SIDE), mode="area")
        x, found = (image / 2 + 0.5 - self.mean) / self.deviation, []
        for place, layer in enumerate(self.layers):
            # In place, a ReLU would change what the layer before has returned.
            x = functional.relu(x) if isinstance(layer, nn.ReLU) else layer(x)
            if place in _RELUS:
                found.append(functional.normalize(x, dim=1))
        return found

    def forward(self, one: Float[Tensor, "b 3 h w"], other: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
        """Return the distance of images in -1..1, of at least 16 pixels."""
        pairs = zip(self.features(one), self.features(other), strict=True)
        return torch.stack([(a - b).square().sum(dim=1).mean(dim=(1, 2)) for a, b in pairs]).sum(dim=0)
