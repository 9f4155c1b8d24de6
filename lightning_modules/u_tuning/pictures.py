"""What the classifier sees: a sheet of test images with true and predicted class."""

from typing import TYPE_CHECKING

from jaxtyping import Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def prediction_sheet(
    images: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"], predictions: Int[Tensor, " n"]
) -> "Figure":
    """Return a figure of up to 32 images; wrong predictions are marked by a frame and by their text."""
    from matplotlib.figure import Figure

    count, columns = min(len(images), 32), 8
    rows = max(1, -(-count // columns))
    figure = Figure(figsize=(columns * 1.1, rows * 1.35))
    axes = figure.subplots(rows, columns, squeeze=False)
    for place, axis in enumerate(axes.flat):
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_visible(place < count)
        if place >= count:
            continue
        image = images[place].float().cpu()
        low, high = image.min(), image.max()
        axis.imshow(((image - low) / (high - low).clamp_min(1e-6)).permute(1, 2, 0).squeeze(-1), cmap="gray")
        true, said = int(labels[place]), int(predictions[place])
        right = true == said
        axis.set_title(f"{said}" if right else f"{said}, is {true}", fontsize=8, color="black" if right else "#b00020")
        for spine in axis.spines.values():
            spine.set(color="#999999" if right else "#b00020", linewidth=0.8 if right else 2.2)
    figure.tight_layout(pad=0.4)
    return figure
