"""The geometry branch of the discriminator: an image taken apart into shape, albedo, light and view, as in Unsup3D.

It is trained on real images alone: what it predicts has to reconstruct the image, and so has its mirror image, since
objects are symmetric. The normals of its depth, warped to the view of the image, guide the generator.
"""

import math
from typing import NamedTuple, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from common.errors import UserError
from common.ranges import FieldOfView, NonNegativeFloat, PositiveFloat, PositiveInt
from lightning_modules.geod.inverse.rasterizer import rasterize
from lightning_modules.geod.inverse.unsup3d_networks import ConfidenceDecoder, MapDecoder, VectorEncoder
from networks.cameras import back_project, focal_length, normals_of_depth, rotation
from networks.precision import single_precision


class InverseRendererOptions(TypedDict):
    """The networks, the camera, and the ranges of what they predict (geod §2.3).

    `size`: side of its input images, a power of two of at least 16; others are resized. `width` and `code_dim`:
    channels of the first layer and of the code of depth and albedo; light and view have half the width, the confidence
    half the code. `min_depth`, `max_depth`: the canonical depth. `rot_center`: depth of the point that objects turn
    about. `fov` in degrees. `rotation_range` in degrees, `translation_range` across and along the view in units of
    depth. `ambient_range`, `diffuse_range`: strength of the light.
    """

    size: PositiveInt
    width: PositiveInt
    code_dim: PositiveInt
    min_depth: PositiveFloat
    max_depth: PositiveFloat
    rot_center: PositiveFloat
    fov: FieldOfView
    rotation_range: NonNegativeFloat
    translation_range: list[NonNegativeFloat]
    ambient_range: list[NonNegativeFloat]
    diffuse_range: list[NonNegativeFloat]


class Shape(NamedTuple):
    """Geometry of b images; tensors of 2b have the mirrored hypothesis in their second half.

    `canonical` [2b, h, w] is depth before the object is turned, `depth` [2b, h, w] that in the input's view, `valid`
    [b, h, w] is 1 where both hypotheses show a surface (detached), `normals` [b, h, w, 3] are those of the first half.
    `turn` [b, 3, 3] and `shift` [b, 3] are the view.
    """

    canonical: Tensor
    depth: Tensor
    valid: Tensor
    normals: Tensor
    turn: Tensor
    shift: Tensor


class ScenePrediction(NamedTuple):
    """Everything that is predicted from b images; tensors of 2b have the mirrored hypothesis in their second half.

    `image` [b, 3, h, w] is the input at the renderer's size, `albedo` and `canonical` [2b, 3, h, w] are in -1..1 (the
    second lit), `reconstruction` [2b, 3, h, w] in the input's view, and the deviations have a channel for each half.
    """

    image: Tensor
    shape: Shape
    albedo: Tensor
    canonical: Tensor
    reconstruction: Tensor
    pixel_deviation: Tensor
    feature_deviation: Tensor


class InverseRenderer(nn.Module):
    """Networks named as in Unsup3D's checkpoints, and the way from what they predict to the input's view.

    Raises:
        UserError: if the size is no power of two of at least 16, or the depths are not increasing.
    """

    def __init__(self, options: InverseRendererOptions) -> None:
        super().__init__()
        size, width, code = options["size"], options["width"], options["code_dim"]
        if size < 16 or size & (size - 1) or width % 8 or code % 2:
            raise UserError(
                f"inverse_renderer: size is {size}, width {width}, code {code}: should be a power of two of at least"
                " 16, a multiple of 8, and even"
            )
        if not 0 < options["min_depth"] < options["max_depth"]:
            raise UserError("inverse_renderer: min_depth should be above 0 and below max_depth")
        self.options, self.size = options, size
        self.focal = focal_length(size, options["fov"])
        self.netD = MapDecoder(size, 1, width, code, bounded=False)
        self.netA = MapDecoder(size, 3, width, code, bounded=True)
        self.netL = VectorEncoder(size, 4, width // 2)
        self.netV = VectorEncoder(size, 6, width // 2)
        self.netC = ConfidenceDecoder(size, width, code // 2)

    @property
    def far(self) -> float:
        """The depth where there is no surface: half the range behind the largest."""
        low, high = self.options["min_depth"], self.options["max_depth"]
        return high + (high - low) / 2

    def resize(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 s s"]:
        """Return images at the size of the input."""
        if image.shape[-1] == self.size:
            return image
        return functional.interpolate(image, (self.size, self.size), mode="bilinear", align_corners=False)

    # The networks' outputs, in units.

    def canonical_depth(self, raw: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
        """Return depth from the network's map minus the mean of each image; borders are far (geod §2.3)."""
        low, high = self.options["min_depth"], self.options["max_depth"]
        depth = torch.tanh(raw - raw.mean(dim=(1, 2), keepdim=True))
        depth = (1 + depth) / 2 * high + (1 - depth) / 2 * low
        columns = self.size // 32 or 1
        border = torch.zeros_like(depth[0])
        border[:, :columns] = border[:, -columns:] = 1
        return depth * (1 - border) + border * (0.7 * high + 0.3 * low)

    def view(self, numbers: Float[Tensor, "b 6"]) -> tuple[Float[Tensor, "b 3 3"], Float[Tensor, "b 3"]]:
        """Return rotation and translation of the object (geod §2.3)."""
        across, along = self.options["translation_range"]
        ranges = numbers.new_tensor([across, across, along])
        return rotation(numbers[:, :3] * math.radians(self.options["rotation_range"])), numbers[:, 3:] * ranges

    def shade(
        self, albedo: Float[Tensor, "n 3 h w"], depth: Float[Tensor, "n h w"], light: Float[Tensor, "n 4"]
    ) -> Float[Tensor, "n 3 h w"]:
        """Return the albedo under Lambert's light, in -1..1 (geod §2.3)."""
        strengths = []
        for k, (low, high) in enumerate((self.options["ambient_range"], self.options["diffuse_range"])):
            strengths.append((low + (high - low) * (light[:, k] + 1) / 2)[:, None, None])
        direction = functional.normalize(torch.cat([light[:, 2:], torch.ones_like(light[:, :1])], dim=1), dim=1)
        cosine = (normals_of_depth(depth, self.focal) * direction[:, None, None]).sum(dim=-1).clamp_min(0)
        shading = strengths[0] + strengths[1] * cosine
        return (albedo / 2 + 0.5) * shading[:, None] * 2 - 1

    # From the canonical view to the input's and back.

    def _turned(self, points: Tensor, turn: Tensor, shift: Tensor) -> Tensor:
        center = points.new_tensor([0, 0, self.options["rot_center"]])
        return (points - center) @ turn.transpose(1, 2) + center + shift[:, None]

    def _turned_back(self, points: Tensor, turn: Tensor, shift: Tensor) -> Tensor:
        center = points.new_tensor([0, 0, self.options["rot_center"]])
        return (points - center - shift[:, None]) @ turn + center

    def _project(self, points: Float[Tensor, "n p 3"]) -> Float[Tensor, "n p 2"]:
        return points[..., :2] / points[..., 2:] * self.focal + (self.size - 1) / 2

    def warp_depth(
        self, canonical: Float[Tensor, "n h w"], turn: Float[Tensor, "n 3 3"], shift: Float[Tensor, "n 3"]
    ) -> Float[Tensor, "n h w"]:
        """Return the depth that the input's view sees; `far` where it sees nothing (geod §2.3)."""
        points = self._turned(back_project(canonical, self.focal).flatten(1, 2), turn, shift)
        low, high = self.options["min_depth"], self.options["max_depth"]
        depth = rasterize(self._project(points), points[..., 2], self.size, far=self.far)
        return depth.clamp(low - (high - low) / 2, self.far)

    def render_view(
        self,
        canonical: Float[Tensor, "n c h w"],
        depth: Float[Tensor, "n h w"],
        turn: Float[Tensor, "n 3 3"],
        shift: Float[Tensor, "n 3"],
    ) -> Float[Tensor, "n c h w"]:
        """Return a canonical image as seen by a view with that depth (geod §2.3)."""
        points = self._turned_back(back_project(depth, self.focal).flatten(1, 2), turn, shift)
        positions = self._project(points) / ((self.size - 1) / 2) - 1
        grid = positions.reshape(len(depth), self.size, self.size, 2)
        return functional.grid_sample(canonical, grid, mode="bilinear", padding_mode="zeros", align_corners=True)

    # Prediction.

    def predict_shape(self, image: Float[Tensor, "b 3 h w"]) -> Shape:
        """Predict the geometry of images in -1..1; the input keeps its gradient."""
        image = self.resize(image)
        with single_precision(image):
            # Half the digits would already be lost in the networks' depth: normals are differences of neighbors.
            raw, numbers = self.netD(image.float())[:, 0], self.netV(image.float())
            canonical = self.canonical_depth(raw)
            canonical = torch.cat([canonical, canonical.flip(-1)])
            turn, shift = self.view(numbers)
            depth = self.warp_depth(canonical, turn.repeat(2, 1, 1), shift.repeat(2, 1))
            has_surface = (depth.detach() < self.far).float()
            own, mirrored = has_surface.chunk(2)
            normals = normals_of_depth(depth[: len(image)], self.focal)
        return Shape(canonical, depth, own * mirrored, normals, turn, shift)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> ScenePrediction:
        """Predict everything from images in -1..1."""
        image = self.resize(image)
        shape = self.predict_shape(image)
        albedo, light = self.netA(image), self.netL(image)
        pixels, features = self.netC(image)
        with single_precision(image):
            albedo = albedo.float()
            albedo = torch.cat([albedo, albedo.flip(-1)])
            canonical = self.shade(albedo, shape.canonical, light.float().repeat(2, 1))
            turn, shift = shape.turn.repeat(2, 1, 1), shape.shift.repeat(2, 1)
            valid = shape.valid.repeat(2, 1, 1)[:, None]
            reconstruction = self.render_view(canonical, shape.depth, turn, shift) * valid
        return ScenePrediction(
            image.float(), shape, albedo, canonical, reconstruction, pixels.float(), features.float()
        )
