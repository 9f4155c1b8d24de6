"""Pictures of the dependencies: the emergence curve, correlations, the spectrum, error against sparsity, the graph."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lightning_modules.neural_dependency.structure.determinants import log_det_curve, spectrum

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours that remain distinct for colour-blind readers.
COLOURS = ("#1b7f5c", "#d9820f", "#5b5ea6", "#b3446c", "#3b7fb6", "#7a7a7a", "#a6761d", "#222222")


def _axes(width: float = 6.4, height: float = 3.6) -> "tuple[Figure, Axes]":
    # Matplotlib takes a second to import, and most runs draw nothing.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def emergence_picture(curves: Mapping[str, Mapping[int, float]]) -> "Figure":
    """Return the figures of `emergence` over the number of categories; zeros lie on the floor of the axis."""
    figure, axes = _axes()
    positive = [value for curve in curves.values() for value in curve.values() if value > 0]
    floor = min(positive, default=1.0) / 3
    for colour, (name, curve) in zip(COLOURS * len(curves), curves.items(), strict=False):
        values = [max(value, floor) for value in curve.values()]
        axes.plot(list(curve), values, marker="o", color=colour, label=name)
    sizes = sorted({size for curve in curves.values() for size in curve})
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.set(xlabel="number of categories", ylabel="median share of variance unexplained")
    axes.legend(frameon=False)
    return figure


def correlation_picture(correlations: Mapping[str, NDArray[np.floating]]) -> "Figure":
    """Return the densities of the correlations of pairs of logits, a curve for each network or control."""
    figure, axes = _axes()
    edges = np.linspace(-1, 1, 81)
    for colour, (name, values) in zip(COLOURS * len(correlations), correlations.items(), strict=False):
        counts, _ = np.histogram(values, edges)
        density = counts / (max(1, len(values)) * np.diff(edges))
        axes.stairs(density, edges, fill=True, color=colour, alpha=0.2)
        axes.stairs(density, edges, color=colour, linewidth=1.4, label=f"{name}, {len(values)} pairs")
    axes.set(xlabel="correlation of two logits", ylabel="density", xlim=(-1, 1))
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


def spectrum_picture(covariances: Mapping[str, NDArray[np.floating]]) -> "Figure":
    """Return eigenvalues (falling, as shares of the largest) and, below, the log determinant as categories are added.

    Each step of the lower curve is the log of the error with which a category follows from those before it, all
    logits scaled to a variance of 1.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    above, below = figure.subplots(2, 1)
    for colour, (name, covariance) in zip(COLOURS * len(covariances), covariances.items(), strict=False):
        values = spectrum(np.asarray(covariance, np.float64))
        kept = values[values > 1e-15 * values.max()]
        above.plot(np.arange(1, len(kept) + 1), kept / kept[0], color=colour, label=f"{name}, rank {len(kept)}")
        scale = np.sqrt(covariance.diagonal())
        alive = scale > 0
        curve = log_det_curve((covariance / np.outer(scale, scale).clip(1e-300))[np.ix_(alive, alive)])
        below.plot(np.arange(1, len(curve) + 1), np.where(np.isfinite(curve), curve, np.nan), color=colour)
    above.set_yscale("log")
    above.set(xlabel="number of the eigenvalue", ylabel="eigenvalue / largest")
    below.set(xlabel="number of categories", ylabel="log determinant")
    above.legend(frameon=False)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def path_picture(nonzero: NDArray[np.floating], errors: Mapping[str, NDArray[np.floating]]) -> "Figure":
    """Return errors over the number of coefficients along the path of penalties.

    Args:
        nonzero: [a], median number of coefficients at each penalty.
        errors: for each estimator ("lasso", "refit") the median error [a].
    """
    figure, axes = _axes()
    for colour, (name, values) in zip(COLOURS * len(errors), errors.items(), strict=False):
        axes.plot(nonzero, values, marker="o", color=colour, label=name)
    axes.set_yscale("log")
    axes.set(xlabel="median number of coefficients", ylabel="median share of variance unexplained")
    axes.legend(frameon=False)
    return figure


def graph_picture(graph: "nx.DiGraph", edges: int = 45, groups: Sequence[int] | None = None) -> "Figure":
    """Return the strongest edges of a dependency graph; the categories that they join stand in a ring, group by group.

    Args:
        graph: from `dependency_graph`.
        edges: how many edges are drawn, strongest first.
        groups: a number for each category that tells its colour, such as its shape.
    """
    ranked = sorted(graph.edges(data="weight"), key=lambda edge: (-edge[2], edge[:2]))[:edges]
    group = dict.fromkeys(graph.nodes, 0) if groups is None else dict(enumerate(groups))
    shown = sorted({node for edge in ranked for node in edge[:2]}, key=lambda node: (group[node], node))
    angles = {node: 2 * np.pi * place / len(shown) for place, node in enumerate(shown)}
    figure, axes = _axes(9.0, 9.0)
    axes.set_axis_off()
    axes.set(xlim=(-1.7, 1.7), ylim=(-1.7, 1.7), aspect="equal")
    for source, target, weight in ranked:
        head, tail = ((float(np.cos(angles[node])), float(np.sin(angles[node]))) for node in (target, source))
        # Thicker edges are stronger; the arrow ends at the category that depends and has the colour of its source.
        style = {
            "arrowstyle": "-|>",
            "connectionstyle": "arc3,rad=0.25",
            "color": COLOURS[group[source] % len(COLOURS)],
        }
        axes.annotate("", head, tail, arrowprops=style | {"lw": 0.4 + 2.2 * weight / ranked[0][2], "alpha": 0.7})
    for node, angle in angles.items():
        x, y, left = np.cos(angle), np.sin(angle), np.cos(angle) < 0
        axes.scatter(x, y, s=24, color=COLOURS[group[node] % len(COLOURS)], zorder=3)
        turn = {"rotation": np.degrees(angle) + 180 * left, "rotation_mode": "anchor"}
        name = graph.nodes[node]["name"]
        axes.text(1.04 * x, 1.04 * y, name, ha="right" if left else "left", va="center", fontsize=8, **turn)
    return figure
