"""The tri-plane generator of EG3D (Chan et al. 2022), module for module: StyleGAN2, planes, decoder, super-resolution.

Other than in EG3D the planes' size and channels are options, and there may be no super-resolution.
"""

from typing import NamedTuple, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from common.errors import UserError
from common.ranges import PositiveFloat, PositiveInt
from networks.gan.generators3d.volume_rendering import RaySteps, Rendering, march
from networks.gan.stylegan2.generator import Noise, StyleGAN2, SynthesisBlock
from networks.gan.stylegan2.layers import FullyConnected, binomial_filter, check_side
from networks.noise import BatchNoise


class TriPlaneOptions(TypedDict):
    """The generator (geod §2.8).

    `z_dim`, `w_dim`, `mapping_layers`, `channel_base`, `channel_max`, `conv_clamp`: see StyleGAN2. `pose_conditioned`:
    whether the mapping sees the camera. `plane_size`, `plane_channels`: the three planes. `decoder_width`: hidden
    units. `decoder_output_dim`: what rays collect, of which the first three are the raw image. `rays`: see `RaySteps`.
    `box_warp`: side of the cube that the planes fill (EG3D's box_warp). `neural_resolution`: side of the rendered image
    (its neural_resolution). `superresolution`: whether super-resolution brings it to the size of the images.
    """

    z_dim: PositiveInt
    w_dim: PositiveInt
    mapping_layers: PositiveInt
    channel_base: PositiveInt
    channel_max: PositiveInt
    conv_clamp: PositiveFloat | None
    pose_conditioned: bool
    plane_size: PositiveInt
    plane_channels: PositiveInt
    decoder_width: PositiveInt
    decoder_output_dim: PositiveInt
    rays: RaySteps
    box_warp: PositiveFloat
    neural_resolution: PositiveInt
    superresolution: bool


class Decoder(nn.Module):
    """From the mean of the three planes' features to density and colors in about 0..1."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.net = nn.Sequential(FullyConnected(inputs, width), nn.Softplus(), FullyConnected(width, 1 + outputs))

    def forward(self, features: Float[Tensor, "b c p"]) -> tuple[Float[Tensor, "b p"], Float[Tensor, "b d p"]]:
        """Return density before its activation, and colors; points come last, so that nothing is transposed."""
        out = features
        for layer in self.net:
            out = layer.along(out) if isinstance(layer, FullyConnected) else layer(out)
        # A little wider than 0..1, as in Mip-NeRF, so that the ends can be reached.
        return out[:, 0], torch.sigmoid(out[:, 1:]) * 1.002 - 0.001


class SuperResolution(nn.Module):
    """Two blocks of StyleGAN2 from raw features to the image; of 256 pixels, the first keeps the size."""

    def __init__(self, features: int, size: int, w_dim: int, conv_clamp: float | None) -> None:
        super().__init__()
        is_large = size >= 512
        up, first, second = (2, 256, 128) if is_large else (1, 128, 64)
        self.start = size // (2 * up)
        self.block0 = SynthesisBlock(features, first, w_dim, self.start * up, 3, up=up, conv_clamp=conv_clamp)
        self.block1 = SynthesisBlock(first, second, w_dim, size, 3, conv_clamp=conv_clamp)
        if not is_large:
            # Not used, but part of EG3D's weights.
            self.register_buffer("resample_filter", binomial_filter())

    def forward(self, features: Tensor, w: Float[Tensor, "b w"]) -> Float[Tensor, "b 3 s s"]:
        """Return the image, without noise."""
        if features.shape[-1] != self.start:
            side = (self.start, self.start)
            features = functional.interpolate(features, side, mode="bilinear", align_corners=False, antialias=True)
        ws = w[:, None].expand(-1, 3, -1)
        x, image = self.block0(features, features[:, :3], ws, "none")
        return self.block1(x, image, ws, "none")[1]


class Field(NamedTuple):
    """A scene: planes [b, 3, c, h, w], and the latent w [b, w] that it came from."""

    planes: Tensor
    w: Tensor


class TriPlaneGenerator(nn.Module):
    """z and camera to image and depth.

    Args:
        options: see `TriPlaneOptions`.
        size: side of the images.

    Raises:
        UserError: if the sizes do not go together.
    """

    def __init__(self, options: TriPlaneOptions, size: int) -> None:
        super().__init__()
        check_side("triplane.plane_size", options["plane_size"])
        if not options["superresolution"] and options["neural_resolution"] != size:
            raise UserError(
                f"triplane.neural_resolution is {options['neural_resolution']}, images are {size}: without"
                " triplane.superresolution they are the same"
            )
        if options["superresolution"] and (size < 128 or options["decoder_output_dim"] < 4):
            raise UserError(
                "triplane.superresolution: is for images of 128 pixels and more, and for more than 3 features"
            )
        self.options, self.size = options, size
        o = options
        self.backbone = StyleGAN2(
            o["z_dim"],
            25 if o["pose_conditioned"] else 0,
            o["w_dim"],
            o["plane_size"],
            3 * o["plane_channels"],
            mapping_layers=o["mapping_layers"],
            channel_base=o["channel_base"],
            channel_max=o["channel_max"],
            conv_clamp=o["conv_clamp"],
        )
        self.decoder = Decoder(o["plane_channels"], o["decoder_width"], o["decoder_output_dim"])
        if o["superresolution"]:
            self.superresolution = SuperResolution(o["decoder_output_dim"], size, o["w_dim"], o["conv_clamp"])

    @property
    def z_dim(self) -> int:
        """Size of z."""
        return self.options["z_dim"]

    @property
    def box_warp(self) -> float:
        """Side of the cube that scenes fill."""
        return self.options["box_warp"]

    @property
    def ray_length(self) -> float:
        """Length of the rays."""
        return self.options["rays"]["ray_end"] - self.options["rays"]["ray_start"]

    @property
    def neural_resolution(self) -> int:
        """Side of rendered images, depth and weight in pixels, before any super-resolution."""
        return self.options["neural_resolution"]

    @property
    def noise_sides(self) -> list[int]:
        """Sides of the noise that `field` takes, see `draw_noise`."""
        return self.backbone.synthesis.noise_sides

    def field(
        self, z: Float[Tensor, "b z"], camera: Float[Tensor, "b 25"] | None = None, noise: Noise = "random"
    ) -> Field:
        """Return the scenes of z; in training mode the average of w is updated. `noise` is the backbone's."""
        w = self.backbone.mapping(z, camera if self.options["pose_conditioned"] else None)
        if self.training:
            self.backbone.mapping.follow(w)
        planes = self.backbone.synthesis(self.backbone.latents(w), noise)
        return Field(planes.unflatten(1, (3, self.options["plane_channels"])), w)

    def query(
        self, field: Field, points: Float[Tensor, "b p 3"]
    ) -> tuple[Float[Tensor, "b p"], Float[Tensor, "b d p"]]:
        """Return density (before its activation) and colors at points of the world."""
        positions = points * (2 / self.options["box_warp"])
        # The three planes see (x, y), (x, z) and (z, x): EG3D's choice, which its checkpoints need.
        pairs = torch.stack([positions[..., :2], positions[..., [0, 2]], positions[..., [2, 0]]], dim=1)
        batch, count = points.shape[:2]
        planes = field.planes.float().flatten(0, 1)
        features = functional.grid_sample(
            planes, pairs.reshape(batch * 3, 1, count, 2), mode="bilinear", padding_mode="zeros", align_corners=False
        )
        return self.decoder(features[:, :, 0].unflatten(0, (batch, 3)).mean(dim=1))

    def render(self, field: Field, camera: Float[Tensor, "b 25"], *, jitter: BatchNoise | None) -> Rendering:
        """Return what cameras see of scenes; jitter draws where rays are sampled, None samples evenly."""
        steps, size = self.options["rays"], self.neural_resolution
        features, depth, weight = march(lambda x, _: self.query(field, x), camera, size, steps, jitter=jitter)
        raw = features[:, :3]
        image = self.superresolution(features, field.w) if self.options["superresolution"] else raw
        return Rendering(image, depth, weight, raw)

    def forward(
        self,
        z: Float[Tensor, "b z"],
        camera: Float[Tensor, "b 25"],
        *,
        jitter: BatchNoise | None = None,
        noise: Noise = "const",
    ) -> Rendering:
        """Return what cameras see of the scenes of z."""
        return self.render(self.field(z, camera, noise), camera, jitter=jitter)
