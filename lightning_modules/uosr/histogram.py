"""A picture of a score: how it spreads over InC, InW and OoD samples."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours that remain distinct for colour-blind readers.
_KINDS = {"InC (accept)": "#1b7f5c", "InW (reject)": "#d9820f", "OoD (reject)": "#5b5ea6"}
BINS = 40


def uncertainty_histogram(scores_inc: Any, scores_inw: Any, scores_ood: Any, title: str) -> "Figure":
    """Return a figure with the densities of a score over the three kinds of samples, laid over each other.

    The axis runs over the middle 99 % of all scores; what lies beyond is counted in the outermost bins.

    Args:
        scores_inc: scores of known, rightly classified samples, larger = reject.
        scores_inw: scores of known, wrongly classified samples.
        scores_ood: scores of unknown samples.
        title: what the score is.
    """
    # Matplotlib takes a second to import, and most runs draw nothing.
    from matplotlib.figure import Figure

    kinds = [np.asarray(scores, np.float64) for scores in (scores_inc, scores_inw, scores_ood)]
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    edges = _edges(np.concatenate(kinds))
    for (name, colour), scores in zip(_KINDS.items(), kinds, strict=True):
        label = f"{name}, n = {len(scores)}"
        density = _density(scores, edges)
        axes.stairs(density, edges, fill=True, color=colour, alpha=0.3)
        axes.stairs(density, edges, color=colour, linewidth=1.4, label=label)
    axes.set(xlabel="uncertainty (larger = reject)", ylabel="density", xlim=(edges[0], edges[-1]))
    axes.set_title(title, loc="left")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def _edges(scores: np.ndarray) -> np.ndarray:
    """Return the bins' edges over the middle 99 % of the finite scores."""
    finite = scores[np.isfinite(scores)]
    low, high = np.quantile(finite, [0.005, 0.995]) if finite.size else (0.0, 1.0)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, BINS + 1)


def _density(scores: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the share of samples per unit of score in each bin, zeros if there are no samples."""
    counts, _ = np.histogram(np.clip(scores, edges[0], edges[-1]), edges)
    return counts / (max(1, len(scores)) * np.diff(edges))
