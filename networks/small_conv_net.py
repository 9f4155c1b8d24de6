"""The small convolutional net of the rendered shapes."""

from collections import OrderedDict

from torch import nn

from common.errors import UserError

# What a tuner finds in it, as it is of no family that tuners know.
SITE_PATTERNS = {"block": r"block\d"}


class SmallConvNet(nn.Sequential):
    """Three blocks of convolution, batch norm, ReLU and pooling (16-32-64 channels), 2 x 2 positions, 256 features.

    The last pooling always ends at 2 x 2, so 8 x 8 digits pass the same net as 16 x 16 shapes.

    Args:
        in_channels: channels of the images.
        image_size: side of the images, a multiple of 8.
    """

    num_features = 256

    def __init__(self, in_channels: int, image_size: int) -> None:
        if image_size < 8 or image_size % 8:
            raise UserError(f"the small backbone needs images whose side is a multiple of 8, not {image_size}")
        widths = (in_channels, 16, 32, 64)
        pools = (2, 2, image_size // 8)
        blocks = [
            # No bias before a batch norm: its gradient is rounding noise, which Adam would blow up to whole steps.
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(pool))
            for a, b, pool in zip(widths, widths[1:], pools, strict=False)
        ]
        last = nn.Sequential(
            nn.Flatten(), nn.Linear(64 * 4, self.num_features, bias=False), nn.BatchNorm1d(self.num_features), nn.ReLU()
        )
        named = {"block1": blocks[0], "block2": blocks[1], "block3": blocks[2], "features": last}
        super().__init__(OrderedDict(named))
