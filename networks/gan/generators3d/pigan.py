"""pi-GAN's generator (Chan et al. 2021): a SIREN that z modulates, rendered from samples along rays.

Layers and initial weights are those of its repository (geod §2.8); rays are rendered as EG3D's are.
"""

import math
from functools import partial
from typing import NamedTuple, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn

from common.ranges import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from networks.gan.generators3d.volume_rendering import RaySteps, Rendering, march
from networks.gan.stylegan2.generator import Noise
from networks.noise import BatchNoise
from networks.precision import single_precision


class PiGANOptions(TypedDict):
    """The generator.

    `z_dim`: size of z. `width`, `layers`: the SIREN. `rays`: see `RaySteps`. `box_warp`: side of the cube that becomes
    -1..1 (`box_warp`). `density_noise`: deviation of the noise on densities at first, which fades out over
    `noise_fade_steps` renderings with gradients.
    """

    z_dim: PositiveInt
    width: PositiveInt
    layers: PositiveInt
    rays: RaySteps
    box_warp: PositiveFloat
    density_noise: NonNegativeFloat
    noise_fade_steps: NonNegativeInt


class Film(NamedTuple):
    """A scene: frequencies and phases [b, layers + 1, width] of every layer."""

    frequencies: Tensor
    phases: Tensor


class FilmSiren(nn.Module):
    """sin(frequency * (W x + b) + phase), with SIREN's initial weights."""

    def __init__(self, inputs: int, outputs: int, *, is_first: bool = False) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)
        bound = 1 / inputs if is_first else math.sqrt(6 / inputs) / 25
        nn.init.uniform_(self.layer.weight, -bound, bound)

    def forward(
        self, x: Float[Tensor, "b p n"], frequency: Float[Tensor, "b m"], phase: Float[Tensor, "b m"]
    ) -> Float[Tensor, "b p m"]:
        """Apply the layer."""
        return torch.sin(frequency[:, None] * self.layer(x) + phase[:, None])


class PiGAN(nn.Module):
    """z and camera to image and depth.

    Args:
        options: see `PiGANOptions`.
        size: side of the images.
    """

    calls: Tensor

    def __init__(self, options: PiGANOptions, size: int) -> None:
        super().__init__()
        self.options, self.neural_resolution = options, size
        width, layers = options["width"], options["layers"]
        numbers = 2 * (layers + 1) * width
        parts: list[nn.Module] = []
        for inputs in (options["z_dim"], 256, 256):
            parts += [nn.Linear(inputs, 256), nn.LeakyReLU(0.2)]
        last = nn.Linear(256, numbers)
        self.mapping = nn.Sequential(*parts, last)
        for layer in self.mapping:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, a=0.2, mode="fan_in", nonlinearity="leaky_relu")
        # The last layer starts small, so that scenes are alike at first.
        with torch.no_grad():
            last.weight.mul_(0.25)
        self.layers = nn.ModuleList(FilmSiren(width if k else 3, width, is_first=not k) for k in range(layers))
        self.density = nn.Linear(width, 1)
        self.colour_layer = FilmSiren(width + 3, width)
        self.colour = nn.Linear(width, 3)
        for linear in (self.density, self.colour):
            bound = math.sqrt(6 / width) / 25
            nn.init.uniform_(linear.weight, -bound, bound)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

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
    def noise_sides(self) -> list[int]:
        """Sides of the noise that `field` takes: none."""
        return []

    def field(self, z: Float[Tensor, "b z"], camera: Tensor | None = None, noise: Noise = "random") -> Film:
        """Return the scenes of z; camera and noise change nothing."""
        with single_precision(z):
            numbers = self.mapping(z.float())
        numbers = numbers.unflatten(1, (2, len(self.layers) + 1, self.options["width"]))
        return Film(numbers[:, 0] * 15 + 30, numbers[:, 1])

    def query(
        self, field: Film, points: Float[Tensor, "b p 3"], directions: Float[Tensor, "b p 3"] | None = None
    ) -> tuple[Float[Tensor, "b p"], Float[Tensor, "b 3 p"]]:
        """Return density (before its activation) and colors in 0..1 at points seen along directions."""
        x = points * (2 / self.box_warp)
        for k, layer in enumerate(self.layers):
            x = layer(x, field.frequencies[:, k], field.phases[:, k])
        density = self.density(x)[..., 0]
        directions = torch.zeros_like(points) if directions is None else directions
        inputs = torch.cat([directions, x], dim=-1)
        color = self.colour_layer(inputs, field.frequencies[:, -1], field.phases[:, -1])
        return density, torch.sigmoid(self.colour(color)).transpose(1, 2)

    def _noise(self) -> float:
        fade = self.options["noise_fade_steps"]
        return self.options["density_noise"] * max(0.0, 1 - int(self.calls) / fade) if fade else 0.0

    def render(self, field: Film, camera: Float[Tensor, "b 25"], *, jitter: BatchNoise | None) -> Rendering:
        """Return what cameras see of scenes; jitter draws where rays are sampled, None samples evenly."""
        noise = self._noise() if self.training else 0.0
        # Once in a generator step, twice with a second view: the discriminator's renderings have no gradient.
        self.calls += int(self.training and torch.is_grad_enabled())
        image, depth, weight = march(
            partial(self.query, field),
            camera,
            self.neural_resolution,
            self.options["rays"],
            jitter=jitter,
            density_noise=noise,
        )
        return Rendering(image, depth, weight, image)

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
