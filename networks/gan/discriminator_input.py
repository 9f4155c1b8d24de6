"""What a discriminator gets to see of images, and the StyleGAN2 discriminator that sees it."""

from typing import TypedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from common.errors import UserError
from common.ranges import NonNegativeFloat, PositiveFloat, PositiveInt
from networks.gan.generators3d.volume_rendering import Rendering
from networks.gan.stylegan2.discriminator import Discriminator
from networks.gan.stylegan2.layers import check_side
from networks.gan.stylegan2.minibatch_deviation import Grouping
from networks.precision import single_precision


class DiscriminatorOptions(TypedDict):
    """StyleGAN2's discriminator, with EG3D's inputs (geod §2.8).

    `channel_base`, `channel_max`, `mbstd_group_size`, `conv_clamp`: see `Discriminator`. `pose_conditioned`: whether it
    sees the camera. `dual_discrimination`: whether it sees the image before super-resolution next to the image, as in
    EG3D. `blur_sigma`: deviation in pixels of the blur of its input at first, which fades out over `blur_fade_kimg`
    thousand images.
    """

    channel_base: PositiveInt
    channel_max: PositiveInt
    mbstd_group_size: PositiveInt
    conv_clamp: PositiveFloat | None
    pose_conditioned: bool
    dual_discrimination: bool
    blur_sigma: NonNegativeFloat
    blur_fade_kimg: NonNegativeFloat


def build_discriminator(
    options: DiscriminatorOptions, size: int, *, grouping: Grouping = "contiguous"
) -> Discriminator:
    """Return the discriminator.

    Args:
        options: see `DiscriminatorOptions`.
        size: side of the images.
        grouping: which samples the minibatch deviation is taken over, see `minibatch_deviation`.

    Raises:
        UserError: if the images have no side that halving leads from.
    """
    check_side("data.image_size", size)
    return Discriminator(
        size,
        6 if options["dual_discrimination"] else 3,
        c_dim=25 if options["pose_conditioned"] else 0,
        channel_base=options["channel_base"],
        channel_max=options["channel_max"],
        group=options["mbstd_group_size"],
        grouping=grouping,
        conv_clamp=options["conv_clamp"],
    )


def blurred(images: Float[Tensor, "b c h w"], sigma: float) -> Float[Tensor, "b c h w"]:
    """Return images blurred with EG3D's kernel, 2 to the power of -(x / sigma)^2, in single precision."""
    radius = int(3 * sigma)
    line = torch.exp2(-(torch.arange(-radius, radius + 1, device=images.device) / sigma).square())
    line = (line / line.sum()).expand(images.shape[1], 1, 1, -1)
    with single_precision(images):
        across = functional.conv2d(images.float(), line, padding=(0, radius), groups=len(line))
        return functional.conv2d(across, line.mT, padding=(radius, 0), groups=len(line))


class DiscriminatorInput:
    """Prepares images for the discriminator, and returns its logits.

    Args:
        options: see `DiscriminatorOptions`.
        neural_resolution: side of rendered images before super-resolution.
    """

    def __init__(self, options: DiscriminatorOptions, neural_resolution: int) -> None:
        self.options, self.neural_resolution = options, neural_resolution

    def sigma(self, images_seen: int) -> float:
        """Return the deviation of the blur, in pixels."""
        fade = self.options["blur_fade_kimg"] * 1000
        return self.options["blur_sigma"] * max(0.0, 1 - images_seen / fade) if fade else 0.0

    def of_real(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        """Return the input for real images: next to each, itself as coarse as a rendered one."""
        if not self.options["dual_discrimination"]:
            return images
        side = (self.neural_resolution, self.neural_resolution)
        raw = functional.interpolate(images, side, mode="bilinear", align_corners=False, antialias=True)
        return torch.cat([images, self._as_large(raw, images)], dim=1)

    def of_rendered(self, rendering: Rendering) -> Float[Tensor, "b c h w"]:
        """Return the input for generated images."""
        if not self.options["dual_discrimination"]:
            return rendering.image
        return torch.cat([rendering.image, self._as_large(rendering.raw, rendering.image)], dim=1)

    @staticmethod
    def _as_large(raw: Tensor, image: Tensor) -> Tensor:
        return functional.interpolate(raw, image.shape[-2:], mode="bilinear", align_corners=False)

    def __call__(
        self,
        discriminator: nn.Module,
        images: Float[Tensor, "b c h w"],
        camera: Float[Tensor, "b 25"] | None,
        images_seen: int,
    ) -> Float[Tensor, " b"]:
        """Return logits.

        Args:
            discriminator: the discriminator.
            images: the result of `of_real` or `of_rendered`.
            camera: cameras of the images, if there are any.
            images_seen: real images that training has seen, which the blur fades out over.

        Raises:
            UserError: if the discriminator needs cameras and there are none.
        """
        sigma = self.sigma(images_seen)
        if sigma > 0:
            images = blurred(images, sigma)
        if self.options["pose_conditioned"] and camera is None:
            raise UserError("discriminator.pose_conditioned: the data have no cameras, so it should be false")
        return discriminator(images, camera if self.options["pose_conditioned"] else None)
