"""The paper's third task, novel view synthesis: OUR READING of it, as nothing readable says what it is (section 2.6).

"warp": the geometry branch takes one view of a generated object apart, turns it to another view, and the generator's
own other view has to look like that. "reproject": the generator's depth carries one view over to the other.
"""

from typing import Literal, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_modules.geod.guidance import reproject, reprojection_error
from lightning_modules.geod.inverse_renderer import InverseRenderer
from networks.precision import single_precision
from networks.volume_rendering import Rendering, split_camera


class NovelViewOptions(TypedDict):
    """`kind`: "none", "warp" or "reproject"; `weight` of the loss, from the start to the stop of the guidance."""

    kind: Literal["none", "warp", "reproject"]
    weight: float


def turned_reading(
    renderer: InverseRenderer,
    image: Float[Tensor, "b 3 h w"],
    camera: Float[Tensor, "b 25"],
    other_camera: Float[Tensor, "b 25"],
) -> tuple[Float[Tensor, "b 3 s s"], Float[Tensor, "b s s"]]:
    """Return how the object in an image looks from another camera, by what is read from it, and where that is known."""
    with single_precision(image):
        return _turned_reading(renderer, image.float(), camera, other_camera)


def _turned_reading(
    renderer: InverseRenderer, image: Tensor, camera: Tensor, other_camera: Tensor
) -> tuple[Tensor, Tensor]:
    reading, count = renderer(image), len(image)
    turns = [split_camera(one.float())[0][:, :3, :3].transpose(1, 2) for one in (camera, other_camera)]
    between = turns[1] @ turns[0].transpose(1, 2)
    turn = between @ reading.shape.turn
    shift = (between @ reading.shape.shift[..., None])[..., 0]
    depth = renderer.warp_depth(reading.shape.canonical[:count], turn, shift)
    found = renderer.show(reading.canonical[:count], depth, turn, shift)
    return found, (depth.detach() < renderer.far).float()


def novel_view_loss(
    kind: str,
    first: Rendering,
    camera: Float[Tensor, "b 25"],
    second: Rendering,
    other_camera: Float[Tensor, "b 25"],
    renderer: InverseRenderer | None,
    reach: float,
) -> Float[Tensor, ""]:
    """Return how far the second view of generated objects is from the first, carried over.

    Args:
        kind: "warp" or "reproject".
        first: a view of the objects.
        camera: its cameras.
        second: another view of the same objects.
        other_camera: its cameras.
        renderer: the inverse renderer, for "warp".
        reach: length of the generator's rays, for "reproject".
    """
    if kind == "reproject":
        found, mask = reproject(second.raw, first.depth, camera, second.depth, other_camera, reach)
        return reprojection_error(first.raw, found, mask)
    assert renderer is not None
    with torch.no_grad():
        found, mask = turned_reading(renderer, first.image, camera, other_camera)
    return reprojection_error(renderer.resize(second.image), found, mask)
