"""The generator and the discriminator: what they are built from, and what the discriminator sees."""

from collections.abc import Iterator
from typing import Any, Protocol, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from common.errors import UserError
from networks.pigan import PiGAN, PiGANOptions
from networks.precision import single_precision
from networks.stylegan2 import Discriminator
from networks.triplane import TriPlaneGenerator, TriPlaneOptions
from networks.volume_rendering import Rendering


class Generator(Protocol):
    """A network from latents to scenes that cameras see: `TriPlaneGenerator` or `PiGAN`.

    A scene is what `field` returns, of a type of the generator's own; `query` and `render` take it.
    """

    @property
    def z_dim(self) -> int:
        """Size of z."""

    @property
    def box(self) -> float:
        """Side of the cube that scenes fill."""

    @property
    def reach(self) -> float:
        """Length of the rays."""

    @property
    def raw_size(self) -> int:
        """Side of depth and weight in pixels."""

    def field(self, z: Float[Tensor, "b z"], camera: Tensor | None = None, noise: str = "random") -> Any:
        """Return the scenes of z; `noise` is "random", "const" or "none"."""

    def query(self, field: Any, points: Float[Tensor, "b p 3"]) -> tuple[Float[Tensor, "b p"], Float[Tensor, "b d p"]]:
        """Return density (before its activation) and colors at points of the world."""

    def render(self, field: Any, camera: Float[Tensor, "b 25"], *, jitter: bool) -> Rendering:
        """Return what cameras see of scenes; jitter draws the samples' places at random."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters."""

    def __call__(
        self, z: Float[Tensor, "b z"], camera: Float[Tensor, "b 25"], *, jitter: bool = False, noise: str = "const"
    ) -> Rendering:
        """Return what cameras see of the scenes of z."""


class DiscriminatorOptions(TypedDict):
    """StyleGAN2's discriminator (spec, section 2.8).

    `pose_conditioned`: whether it is told the camera. `sees_raw`: whether it sees the image before super-resolution
    beside the image, as in EG3D. `blur_sigma`: deviation in pixels of the blur of what it sees at first, which fades
    out over `blur_fade_kimg` thousand images.
    """

    channel_base: int
    channel_max: int
    group: int
    conv_clamp: float | None
    pose_conditioned: bool
    sees_raw: bool
    blur_sigma: float
    blur_fade_kimg: float


class RegularisationOptions(TypedDict):
    """Lazy regularisations, each in a step of its own, every so many steps; R1 of every step is part of the loss.

    `r1_gamma`: weight of the discriminator's squared gradient norm on real images (times one half). `density_weight`:
    weight of the difference of density between points and points beside them.
    """

    r1_gamma: float
    r1_interval: int
    density_weight: float
    density_interval: int


def _check_side(key: str, side: int) -> None:
    if side < 8 or side & (side - 1):
        raise UserError(f"{key} is {side}, should be a power of two of at least 8: StyleGAN2 doubles and halves")


def build_generator(
    triplane: TriPlaneOptions | None, pigan: PiGANOptions | None, size: int
) -> TriPlaneGenerator | PiGAN:
    """Return the generator whose options are given.

    Raises:
        UserError: if not one of both is, or planes have no side that doubling leads to.
    """
    if (triplane is None) == (pigan is None):
        raise UserError("generator: give one of triplane and pigan, and null for the other")
    if triplane is not None:
        _check_side("triplane.plane_size", triplane["plane_size"])
        return TriPlaneGenerator(triplane, size)
    assert pigan is not None
    return PiGAN(pigan, size)


def build_discriminator(options: DiscriminatorOptions, size: int) -> Discriminator:
    """Return the discriminator.

    Raises:
        UserError: if the images have no side that halving leads from.
    """
    _check_side("data.image_size", size)
    return Discriminator(
        size,
        6 if options["sees_raw"] else 3,
        c_dim=25 if options["pose_conditioned"] else 0,
        channel_base=options["channel_base"],
        channel_max=options["channel_max"],
        group=options["group"],
        conv_clamp=options["conv_clamp"],
    )


def blurred(images: Float[Tensor, "b c h w"], sigma: float) -> Float[Tensor, "b c h w"]:
    """Return images blurred with EG3D's kernel, 2 to the power of -(x / sigma)^2, in single precision."""
    reach = int(3 * sigma)
    line = torch.exp2(-(torch.arange(-reach, reach + 1, device=images.device) / sigma).square())
    line = (line / line.sum()).expand(images.shape[1], 1, 1, -1)
    with single_precision(images):
        across = functional.conv2d(images.float(), line, padding=(0, reach), groups=len(line))
        return functional.conv2d(across, line.mT, padding=(reach, 0), groups=len(line))


class Judge:
    """What the discriminator sees of images, and its verdict on them.

    Args:
        options: see `DiscriminatorOptions`.
        raw_size: side of rendered images before super-resolution.
    """

    def __init__(self, options: DiscriminatorOptions, raw_size: int) -> None:
        self.options, self.raw_size = options, raw_size

    def sigma(self, images_seen: int) -> float:
        """Return the deviation of the blur, in pixels."""
        fade = self.options["blur_fade_kimg"] * 1000
        return self.options["blur_sigma"] * max(0.0, 1 - images_seen / fade) if fade else 0.0

    def of_real(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        """Return what is seen of real images: beside each, itself as coarse as a rendered one."""
        if not self.options["sees_raw"]:
            return images
        side = (self.raw_size, self.raw_size)
        raw = functional.interpolate(images, side, mode="bilinear", align_corners=False, antialias=True)
        return torch.cat([images, self._as_large(raw, images)], dim=1)

    def of_rendered(self, rendering: Rendering) -> Float[Tensor, "b c h w"]:
        """Return what is seen of generated images."""
        if not self.options["sees_raw"]:
            return rendering.image
        return torch.cat([rendering.image, self._as_large(rendering.raw, rendering.image)], dim=1)

    @staticmethod
    def _as_large(raw: Tensor, image: Tensor) -> Tensor:
        return functional.interpolate(raw, image.shape[-2:], mode="bilinear", align_corners=False)

    def __call__(
        self, discriminator: nn.Module, seen: Tensor, camera: Float[Tensor, "b 25"] | None, images_seen: int
    ) -> Float[Tensor, " b"]:
        """Return logits."""
        sigma = self.sigma(images_seen)
        if sigma > 0:
            seen = blurred(seen, sigma)
        if self.options["pose_conditioned"] and camera is None:
            raise UserError("discriminator.pose_conditioned: the data have no cameras, so it should be false")
        return discriminator(seen, camera if self.options["pose_conditioned"] else None)


def density_variation(generator: Generator, z: Float[Tensor, "b z"], camera: Tensor) -> Float[Tensor, ""]:
    """Return how much density differs between random points and points beside them (EG3D's regularisation)."""
    field = generator.field(z, camera)
    side, points = generator.box, 1000
    # In a cube of twice the side, as EG3D's are: only an eighth of them lie where the planes are.
    first = (torch.rand(len(z), points, 3, device=z.device) * 2 - 1) * side
    beside = first + torch.randn_like(first) * (0.004 * side)
    with single_precision(z):
        density = generator.query(field, torch.cat([first, beside], dim=1))[0]
    one, other = density.chunk(2, dim=1)
    return (one - other).abs().mean()


def r1_penalty(logits: Float[Tensor, " b"], seen: Tensor) -> Float[Tensor, ""]:
    """Return the mean squared gradient norm of the logits of real images, in single precision."""
    (gradient,) = torch.autograd.grad(logits.float().sum(), seen, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3)).mean()
