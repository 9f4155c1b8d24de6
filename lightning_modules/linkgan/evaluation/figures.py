"""Pictures of what links do: samples, samples with one group of axes drawn anew, and where they differ (§2.8)."""

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_modules.generated_images import Pixels, image_grid
from lightning_modules.linkgan.editing import compared
from lightning_modules.linkgan.evaluation.samples import Samples, resampled
from lightning_modules.linkgan.networks import LinkGANNetworks

# Images in a row, and their side in pixels where they are smaller.
COLUMNS, SIDE = 8, 64
CAPTION = "samples; for each link: its axes drawn anew, where that changes them (white), all other axes drawn anew"


def edits_figure(networks: LinkGANNetworks, samples: Samples) -> Pixels:
    """Return fixed samples in the first row and, for each link, three rows of what its edits make of them."""
    (latents,) = samples.latents(range(COLUMNS))
    plain = samples.images_of(latents.w)
    rows = [plain]
    for axes in networks.axes().values():
        edited = samples.images_of(resampled(latents.w, latents.other, axes))
        rows += [
            edited,
            compared(plain, edited).difference,
            samples.images_of(resampled(latents.w, latents.other, ~axes)),
        ]
    return image_grid(rows, side=SIDE)


def real_figure(images: Float[Tensor, "n c h w"]) -> Pixels:
    """Return real images."""
    return image_grid(images[: 2 * COLUMNS], columns=COLUMNS, side=SIDE)


def sample_grid(samples: Samples, count: int) -> Pixels:
    """Return samples in rows."""
    return image_grid(torch.cat(list(samples.images(range(count)))), columns=COLUMNS, side=SIDE)
