"""The graph of dependencies, and whether its edges join categories that have something in common (§2.6)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array


def edge_weights(weights: csr_array, variances: NDArray[np.floating]) -> coo_array:
    """Return |w_ij| sqrt(C_jj / C_ii) for every coefficient: how many deviations of f_i one of f_j is worth.

    Args:
        weights: sparse [K, K], row i holds the coefficients of category i.
        variances: [K], the diagonal of the second moments that the weights were fitted to; rows and columns where it is
            zero (dead logits) have no edge.
    """
    found, scale = coo_array(weights), np.sqrt(np.asarray(variances, np.float64))
    alive = (scale[found.row] > 0) & (scale[found.col] > 0) & (found.data != 0)
    row, col = found.row[alive], found.col[alive]
    return coo_array((np.abs(found.data[alive]) * scale[col] / scale[row], (row, col)), shape=found.shape)


def dependency_graph(
    weights: csr_array, variances: NDArray[np.floating], names: Sequence[str] | None = None
) -> nx.DiGraph:
    """Return the graph with an edge j -> i where category i depends on j.

    Nodes are category numbers with their `name`; edges carry `weight`, see `edge_weights`, and the `coefficient` w_ij.
    """
    edges, graph = edge_weights(weights, variances), nx.DiGraph()
    for number in range(edges.shape[0]):
        graph.add_node(number, name=names[number] if names else str(number))
    coefficients = csr_array(weights)
    for i, j, weight in zip(edges.row.tolist(), edges.col.tolist(), edges.data.tolist(), strict=True):
        graph.add_edge(j, i, weight=weight, coefficient=float(coefficients[i, j]))
    return graph


def node_link(graph: nx.DiGraph) -> dict[str, Any]:
    """Return the graph as plain values for JSON, which `networkx.node_link_graph(..., edges="edges")` reads back."""
    return nx.node_link_data(graph, edges="edges")


def strongest(weights: csr_array, variances: NDArray[np.floating], count: int = 3) -> NDArray[np.int64]:
    """Return for each category the sources of its strongest edges, strongest first, int [K, count]; -1 for none."""
    edges = csr_array(edge_weights(weights, variances))
    found = np.full((edges.shape[0], count), -1)
    for i in range(edges.shape[0]):
        row = slice(edges.indptr[i], edges.indptr[i + 1])
        order = np.argsort(-edges.data[row], kind="stable")[:count]
        found[i, : len(order)] = edges.indices[row][order]
    return found


class Meaning(NamedTuple):
    """How much categories that depend on one another have in common.

    Attributes:
        chosen: mean similarity of a category and the sources of its strongest edges.
        random: mean similarity of all pairs of different categories.
        low: 2.5 % quantile of `chosen` when the categories are renamed at random.
        high: 97.5 % quantile of the same.
        p: share of renamings, the true one counted in, whose mean is at least `chosen`.
        pairs: number of edges that `chosen` is a mean of.
    """

    chosen: float
    random: float
    low: float
    high: float
    p: float
    pairs: int


def meaning(
    sources: NDArray[np.int64], similarity: NDArray[np.number], *, renamings: int = 1000, seed: int = 0
) -> Meaning:
    """Compare the strongest dependencies with a known similarity of the categories, by a permutation test.

    Renaming the categories at random keeps the graph and the similarities as they are, so it tells what edges that know
    nothing of the categories would get.

    Args:
        sources: int [K, count] from `strongest`.
        similarity: [K, K], symmetric: number of shared attributes, or any other similarity.
        renamings: number of random renamings.
        seed: their seed.

    Raises:
        ValueError: if there is no edge at all, or the sizes differ.
    """
    count = len(similarity)
    if sources.shape[0] != count:
        raise ValueError(f"sources of {sources.shape[0]} categories, but similarities of {count}")
    targets, places = np.nonzero(sources >= 0)
    if not len(targets):
        raise ValueError("there is no dependency to be read")
    from_ = sources[targets, places]
    similarity = np.asarray(similarity, np.float64)
    chosen = similarity[targets, from_].mean()
    rng = np.random.default_rng(seed)
    renamed = np.empty(renamings)
    for trial in range(renamings):
        order = rng.permutation(count)
        renamed[trial] = similarity[order[targets], order[from_]].mean()
    low, high = np.quantile(renamed, [0.025, 0.975])
    p = (1 + int((renamed >= chosen - 1e-12).sum())) / (renamings + 1)
    random = (similarity.sum() - np.trace(similarity)) / (count * (count - 1))
    return Meaning(float(chosen), float(random), float(low), float(high), p, len(targets))
