import json

import networkx as nx
import numpy as np
import pytest
from scipy.sparse import csr_array

from common.errors import UserError
from lightning_modules.neural_dependency.structure.graph import (
    dependency_graph,
    edge_weights,
    meaning,
    node_link,
    strongest,
)
from lightning_modules.neural_dependency.structure.wordnet import path_similarity
from tests.neural_dependency.synthetic import least_squares, logits, shared

WEIGHTS = csr_array(np.array([[0, 0.5, 0, 0], [0, 0, -2.0, 1.0], [0, 0, 0, 0], [0.1, 0, 0.3, 0]]))
VARIANCES = np.array([4.0, 1.0, 9.0, 1.0])


def test_edges_are_scaled_to_deviations():
    dense = edge_weights(WEIGHTS, VARIANCES).toarray()
    assert dense[0, 1] == pytest.approx(0.5 * 1 / 2)
    assert dense[1, 2] == pytest.approx(2 * 3)
    assert dense[3, 0] == pytest.approx(0.1 * 2)
    # Units of a logit do not matter.
    scale = np.array([10.0, 1, 0.1, 3])
    other = edge_weights(csr_array(WEIGHTS.toarray() * scale[:, None] / scale), VARIANCES * scale**2)
    assert np.allclose(other.toarray(), dense)


def test_dead_logits_have_no_edge():
    # Dead logits (§2.2) have no edge.
    with np.errstate(all="raise"):
        edges = edge_weights(WEIGHTS, np.array([4.0, 1.0, 0.0, 1.0]))
    assert edges.shape == (4, 4)
    assert edges.nnz == 3
    assert np.isfinite(edges.data).all()


def test_the_graph_goes_from_source_to_dependent_and_through_json():
    graph = dependency_graph(WEIGHTS, VARIANCES, ["a", "b", "c", "d"])
    assert set(graph.edges) == {(1, 0), (2, 1), (3, 1), (0, 3), (2, 3)}
    assert graph.edges[2, 1] == {"weight": pytest.approx(6.0), "coefficient": -2.0}
    back = nx.node_link_graph(json.loads(json.dumps(node_link(graph))), edges="edges")
    assert nx.utils.graphs_equal(graph, back)
    assert [back.nodes[k]["name"] for k in range(4)] == ["a", "b", "c", "d"]


def test_the_strongest_come_first():
    assert strongest(WEIGHTS, VARIANCES, 2).tolist() == [[1, -1], [2, 3], [-1, -1], [2, 0]]


def test_dependencies_of_structured_logits_mean_something_and_random_ones_nothing():
    found, _, of = logits(4000, noise=0.3)
    weights, _ = least_squares(found)
    similarity = shared(of)
    read = meaning(strongest(csr_array(weights), np.cov(found.T).diagonal()), similarity)
    assert read.chosen > read.random + 0.5
    assert read.chosen > read.high
    assert read.p < 0.01
    assert read.pairs == 24 * 3
    assert read.low < read.random < read.high
    blind = np.random.default_rng(0).standard_normal((24, 24)) * (1 - np.eye(24))
    nothing = meaning(strongest(csr_array(blind), np.ones(24)), similarity)
    assert nothing.low <= nothing.chosen <= nothing.high
    assert nothing.p > 0.05


def test_meaning_needs_edges_and_sizes_that_fit():
    with pytest.raises(ValueError, match="no dependency"):
        meaning(np.full((4, 3), -1), np.ones((4, 4)))
    with pytest.raises(ValueError, match="4 categories, but similarities of 5"):
        meaning(np.zeros((4, 3), int), np.ones((5, 5)))


@pytest.fixture
def is_a(tmp_path):
    path = tmp_path / "wordnet.is_a.txt"
    # animal -> cat, dog; cat -> tabby, siamese; a tabby is a pet too, as is a goldfish.
    path.write_text("n1 n2\nn1 n3\nn2 n4\nn2 n5\nn9 n4\nn9 n6\n")
    return path


def test_path_similarity_goes_over_a_common_ancestor(is_a):
    found = path_similarity(["n4", "n5", "n3", "n6"], is_a)
    assert np.allclose(np.diag(found), 1)
    assert np.allclose(found, found.T)
    assert found[0, 1] == pytest.approx(1 / 3)
    assert found[0, 2] == pytest.approx(1 / 4)
    assert found[0, 3] == pytest.approx(1 / 3)
    # Siamese and goldfish only share a descendant's other parent, which is no ancestor of both.
    assert found[1, 3] == 0


def test_what_is_missing_of_wordnet_is_one_line(is_a, tmp_path):
    bad = tmp_path / "bad.txt"
    bad.write_text("n1\n")
    for said, wnids, path in (
        ("no .*none.txt; expected there: wordnet.is_a.txt", ["n1"], tmp_path / "none.txt"),
        ("n77 is no synset", ["n77"], is_a),
        ("line 1: 'n1' is not", ["n1"], bad),
    ):
        with pytest.raises(UserError, match=said) as error:
            path_similarity(wnids, path)
        assert "\n" not in str(error.value)
