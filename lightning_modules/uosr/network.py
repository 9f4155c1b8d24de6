"""The classifier: a backbone and a linear head, in one forward pass for known images and outliers together."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lightning_modules.uosr.backbones import Backbone, build_backbone, middle_block
from networks.backbones import linear_head, load_weights


class Seen(NamedTuple):
    """What the network makes of a batch: penultimate features and logits, both float32."""

    features: Float[Tensor, "b d"]
    logits: Float[Tensor, "b k"]


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return half precision as float32, and float32 and float64 as they are."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


class Network(nn.Module):
    """Images to features and logits over the known classes.

    Args:
        options: the backbone, see `Backbone`.
        num_classes: number K of known classes.
        in_channels: channels of the images.
        image_size: side of the images in pixels.
    """

    def __init__(self, options: Backbone, num_classes: int, in_channels: int, image_size: int) -> None:
        super().__init__()
        self.options = options
        self.backbone = build_backbone(options["name"], in_channels, image_size)
        self.head = linear_head(self.backbone, num_classes, starts_at_zero=options["zero_head"])

    def forward(self, images: Float[Tensor, "b c h w"]) -> Seen:
        """Return features and logits in float32 or better, whatever autocast computes inside."""
        features = self.backbone(images)
        return Seen(at_least_float32(features), at_least_float32(self.head(features)))

    def mixed(self, images: Float[Tensor, "b c h w"], mix: Callable[[Tensor], Tensor]) -> Seen:
        """Like `forward`, but `mix` changes what leaves the backbone's middle block."""
        hook = middle_block(self.backbone).register_forward_hook(lambda _module, _inputs, hidden: mix(hidden))
        try:
            return self(images)
        finally:
            hook.remove()

    def beside(self, images: Float[Tensor, "b c h w"], outliers: Float[Tensor, "o c h w"]) -> tuple[Seen, Seen]:
        """Return what known images and outliers become in ONE pass: batch norm sees both, as in the official code."""
        known = len(images)
        features, logits = self(torch.cat((images, outliers)))
        return Seen(features[:known], logits[:known]), Seen(features[known:], logits[known:])

    def load_pretrained(self) -> None:
        """Load the weights that the options name, if any; the head stays as it was initialised."""
        if self.options["weights"] is not None:
            load_weights(self.backbone, self.options["name"], self.options["weights"])
