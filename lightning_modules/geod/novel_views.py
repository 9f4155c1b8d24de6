"""The paper's third task, novel view synthesis, in a form of OUR choice: no readable source gives its own (geod §2.6).

"warp": the geometry branch predicts shape and appearance from one view of a generated object, turns them to another
view, and the generator's own other view has to match that. "reproject": the generator's depth carries one view over
to the other.
"""

from typing import Literal, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor

from common.ranges import NonNegativeFloat
from lightning_modules.geod.inverse.renderer import InverseRenderer
from networks.cameras import split_camera
from networks.distributed import mean_over_mask
from networks.gan.generators3d.volume_rendering import Rendering
from networks.precision import single_precision
from networks.reprojection import reproject


class NovelViewOptions(TypedDict):
    """`kind`: "none", "warp" or "reproject"; `weight` of the loss, from the start to the stop of the guidance."""

    kind: Literal["none", "warp", "reproject"]
    weight: NonNegativeFloat


def turned_prediction(
    renderer: InverseRenderer,
    image: Float[Tensor, "b 3 h w"],
    camera: Float[Tensor, "b 25"],
    other_camera: Float[Tensor, "b 25"],
) -> tuple[Float[Tensor, "b 3 s s"], Float[Tensor, "b s s"]]:
    """Return how an image's object looks from another camera by its prediction, and a mask of where that is known."""
    with single_precision(image):
        return _turned_prediction(renderer, image.float(), camera, other_camera)


def _turned_prediction(
    renderer: InverseRenderer, image: Tensor, camera: Tensor, other_camera: Tensor
) -> tuple[Tensor, Tensor]:
    prediction, count = renderer(image), len(image)
    turns = [split_camera(one.float())[0][:, :3, :3].transpose(1, 2) for one in (camera, other_camera)]
    between = turns[1] @ turns[0].transpose(1, 2)
    turn = between @ prediction.shape.turn
    shift = (between @ prediction.shape.shift[..., None])[..., 0]
    depth = renderer.warp_depth(prediction.shape.canonical[:count], turn, shift)
    warped = renderer.render_view(prediction.canonical[:count], depth, turn, shift)
    return warped, (depth.detach() < renderer.far).float()


def novel_view_loss(
    kind: str,
    first: Rendering,
    camera: Float[Tensor, "b 25"],
    second: Rendering,
    other_camera: Float[Tensor, "b 25"],
    renderer: InverseRenderer | None,
    ray_length: float,
) -> Float[Tensor, ""]:
    """Return how far the second view of generated objects is from the first, carried over.

    Args:
        kind: "warp" or "reproject".
        first: a view of the objects.
        camera: its cameras.
        second: another view of the same objects.
        other_camera: its cameras.
        renderer: the inverse renderer, for "warp".
        ray_length: length of the generator's rays, for "reproject".
    """
    if kind == "reproject":
        warped, mask = reproject(second.raw, first.depth, camera, second.depth, other_camera, ray_length)
        return _difference(first.raw, warped, mask)
    assert renderer is not None
    with torch.no_grad():
        warped, mask = turned_prediction(renderer, first.image, camera, other_camera)
    return _difference(renderer.resize(second.image), warped, mask)


def _difference(image: Float[Tensor, "b c h w"], warped: Float[Tensor, "b c h w"], mask: Tensor) -> Tensor:
    return mean_over_mask((image - warped).abs().mean(dim=1), mask)
