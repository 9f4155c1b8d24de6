"""Edits of a region: the axes of w that are linked to it are resampled, all others are kept (linkgan §2.7)."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from networks.gan.stylegan2.generator import Noise

Edit = Literal["replace", "interpolate", "perturb"]


class EditableGenerator(Protocol):
    """A generator whose w can be edited."""

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

    def to_w(self, z: Float[Tensor, "b z"], c: None = None, *, truncation: float = 1.0) -> Float[Tensor, "b w"]:
        """Return w, moved towards its average by a truncation below 1."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters."""

    def synthesize(self, ws: Float[Tensor, "b n w"], noise: Noise, c: None = None) -> Any:
        """Return the images of latents, one for every layer, as attribute `image` [b, c, h, w] of the result."""


class EditedImages(NamedTuple):
    """An edit's result, images float [b, c, h, w] in -1..1: before, after, and |after - before| with 0 at -1."""

    original: Tensor
    edited: Tensor
    difference: Tensor

    def side_by_side(self) -> Float[Tensor, "b c h 3*w"]:
        """Return original, edit and difference of each sample as one image."""
        return torch.cat(self, dim=3)


def compared(original: Float[Tensor, "b c h w"], edited: Float[Tensor, "b c h w"]) -> EditedImages:
    """Return two images of each sample, clamped to -1..1, and their difference."""
    before, after = original.clamp(-1, 1), edited.clamp(-1, 1)
    # A difference is 0..2, the whole range of an image.
    return EditedImages(before, after, (after - before).abs() - 1)


def edit_latents(
    ws: Float[Tensor, "b n w"],
    other: Float[Tensor, "*b w"],
    axes: Bool[Tensor, " w"],
    edit: Edit = "replace",
    amount: float = 1.0,
) -> Float[Tensor, "b n w"]:
    """Return latents of which the given axes are edited in every layer's row, and no other axis.

    Args:
        ws: the latents.
        other: [b, n, w], or [b, 1, w] for all layers: latents to move to, or directions to "perturb" in, such as
            standard normal numbers.
        axes: the axes that are edited.
        edit: "replace" takes the others' axes, "interpolate" goes `amount` of the way to them (0: none, 1: all),
            "perturb" adds `amount` times the directions.
        amount: see `edit`; "replace" ignores it.
    """
    if edit == "interpolate":
        other = torch.lerp(ws, other.expand_as(ws), amount)
    elif edit == "perturb":
        other = ws + amount * other
    return torch.where(axes.to(ws.device), other, ws)


@torch.no_grad()
def render_edit(
    generator: EditableGenerator, ws: Float[Tensor, "b n w"], edited: Float[Tensor, "b n w"], noise: Noise = "const"
) -> EditedImages:
    """Return the images of latents before and after an edit, both with the same noise, and their difference.

    Args:
        generator: the generator, in eval mode.
        ws: latents before the edit.
        edited: latents after it.
        noise: the noise of both passes: "const", "none", or tensors; see `draw_noise` for random ones.

    Raises:
        ValueError: for "random", which would draw other noise for each pass.
    """
    if noise == "random":
        raise ValueError('noise is "random": draw it once, so that both passes share it')
    return compared(generator.synthesize(ws, noise).image, generator.synthesize(edited, noise).image)
