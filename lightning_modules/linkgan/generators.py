"""What links need of a generator: z to w, and w to images in passes that share their noise (§2.1, §2.10)."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, TypedDict

from jaxtyping import Float
from torch import Tensor, nn

from common.ranges import FractionBelowOne, PositiveFloat, PositiveInt
from networks.gan.stylegan2.generator import Noise, StyleGAN2
from networks.gan.stylegan2.layers import check_side


class GeneratedImages(NamedTuple):
    """Images [b, c, h, w] in about -1..1, and those before a super-resolution [b, c, r, r], None without one."""

    image: Tensor
    raw: Tensor | None = None


class LinkableGenerator(Protocol):
    """A generator whose w can be linked to pixels. `c` is a condition such as a camera, None where there is none."""

    @property
    def z_dim(self) -> int:
        """Size of z."""

    @property
    def w_dim(self) -> int:
        """Size of w."""

    @property
    def num_ws(self) -> int:
        """Number of layers that take a latent."""

    @property
    def noise_sides(self) -> Sequence[int]:
        """Side of the noise of each convolution, in their order."""

    def to_w(
        self, z: Float[Tensor, "b z"], c: Tensor | None = None, *, truncation: float = 1.0
    ) -> Float[Tensor, "b w"]:
        """Return w, moved towards its average by a truncation below 1."""

    def follow(self, w: Float[Tensor, "b w"]) -> None:
        """Update the moving average of w."""

    def synthesize(self, ws: Float[Tensor, "b n w"], noise: Noise, c: Tensor | None = None) -> GeneratedImages:
        """Return the images of latents, one for every layer; `noise` as in `SynthesisNetwork.forward`."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters."""


class StyleGAN2Options(TypedDict):
    """StyleGAN2's generator (§2.5): see `StyleGAN2`. `w_decay`: decay of the moving average of w."""

    z_dim: PositiveInt
    w_dim: PositiveInt
    mapping_layers: PositiveInt
    channel_base: PositiveInt
    channel_max: PositiveInt
    conv_clamp: PositiveFloat | None
    w_decay: FractionBelowOne


class StyleGAN2Generator(StyleGAN2):
    """StyleGAN2 as a linkable generator; the names of its weights are stylegan2-ada-pytorch's.

    Args:
        options: see `StyleGAN2Options`.
        size: side of the images.
        channels: channels of the images.

    Raises:
        UserError: if no doubling leads to the size.
    """

    def __init__(self, options: StyleGAN2Options, size: int, channels: int) -> None:
        check_side("data.image_size", size)
        super().__init__(
            options["z_dim"],
            0,
            options["w_dim"],
            size,
            channels,
            mapping_layers=options["mapping_layers"],
            channel_base=options["channel_base"],
            channel_max=options["channel_max"],
            conv_clamp=options["conv_clamp"],
            average_decay=options["w_decay"],
        )
        self.z_dim, self.w_dim = options["z_dim"], options["w_dim"]

    @property
    def num_ws(self) -> int:
        """Number of layers that take a latent."""
        return self.synthesis.num_ws

    @property
    def noise_sides(self) -> list[int]:
        """Side of the noise of each convolution, in their order."""
        return self.synthesis.noise_sides

    def to_w(
        self, z: Float[Tensor, "b z"], c: Tensor | None = None, *, truncation: float = 1.0
    ) -> Float[Tensor, "b w"]:
        """Return w, moved towards its average by a truncation below 1."""
        return self.mapping(z, c, truncation=truncation)

    def follow(self, w: Float[Tensor, "b w"]) -> None:
        """Update the moving average of w."""
        self.mapping.follow(w)

    def synthesize(self, ws: Float[Tensor, "b n w"], noise: Noise, c: Tensor | None = None) -> GeneratedImages:
        """Return the images of latents, one for every layer."""
        return GeneratedImages(self.synthesis(ws, noise))


def broadcast(w: Float[Tensor, "b w"], layers: int) -> Float[Tensor, "b n w"]:
    """Return the same w for every layer."""
    return w[:, None].expand(-1, layers, -1)
