"""What a 3D-aware generator is: latents to scenes, and scenes to what cameras see of them."""

from collections.abc import Iterator
from typing import Any, Protocol

from jaxtyping import Float
from torch import Tensor, nn

from networks.gan.generators3d.volume_rendering import Rendering
from networks.gan.stylegan2.generator import Noise
from networks.noise import BatchNoise


class Generator3D(Protocol):
    """A network from latents to scenes that cameras see: `TriPlaneGenerator` or `PiGAN`.

    A scene is what `field` returns, of a type of the generator's own; `query` and `render` take it.
    """

    @property
    def z_dim(self) -> int:
        """Size of z."""

    @property
    def box_warp(self) -> float:
        """Side of the cube that scenes fill."""

    @property
    def ray_length(self) -> float:
        """Length of the rays."""

    @property
    def neural_resolution(self) -> int:
        """Side of rendered images, depth and weight in pixels, before any super-resolution."""

    @property
    def noise_sides(self) -> list[int]:
        """Sides of the noise that `field` takes, see `draw_noise`; none for a generator without noise."""

    def field(self, z: Float[Tensor, "b z"], camera: Tensor | None = None, noise: Noise = "random") -> Any:
        """Return the scenes of z; `noise` is that of the synthesis network, if there is one."""

    def query(self, field: Any, points: Float[Tensor, "b p 3"]) -> tuple[Float[Tensor, "b p"], Float[Tensor, "b d p"]]:
        """Return density (before its activation) and colors at points of the world."""

    def render(self, field: Any, camera: Float[Tensor, "b 25"], *, jitter: BatchNoise | None) -> Rendering:
        """Return what cameras see of scenes; jitter draws where rays are sampled, None samples evenly."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters."""

    def __call__(
        self,
        z: Float[Tensor, "b z"],
        camera: Float[Tensor, "b 25"],
        *,
        jitter: BatchNoise | None = None,
        noise: Noise = "const",
    ) -> Rendering:
        """Return what cameras see of the scenes of z."""
