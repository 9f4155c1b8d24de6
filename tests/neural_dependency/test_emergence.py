from itertools import pairwise

import numpy as np
import pytest
from scipy.sparse import csr_array

from lightning_modules.neural_dependency import pictures
from lightning_modules.neural_dependency.structure.emergence import (
    correlations,
    doubling_sizes,
    emergence,
    nested_subsets,
)
from lightning_modules.neural_dependency.structure.graph import dependency_graph
from tests.neural_dependency.synthetic import least_squares, logits
from tests.neural_dependency.test_controls import unexplained


def test_subsets_are_nested_and_told_by_the_seed():
    subsets = nested_subsets(40, [32, 8, 16, 40], seed=1)
    assert list(subsets) == [8, 16, 32, 40]
    for small, large in pairwise(subsets.values()):
        assert set(small) < set(large)
        assert (np.diff(large) > 0).all()
    again = nested_subsets(40, [8, 16, 32, 40], 1)
    assert all(np.array_equal(chosen, again[size]) for size, chosen in subsets.items())
    assert not np.array_equal(subsets[8], nested_subsets(40, [8], seed=2)[8])
    for wrong in ([], [1], [41]):
        with pytest.raises(ValueError, match="each should be 2 to 40"):
            nested_subsets(40, wrong)


def test_sizes_double_up_to_all():
    assert doubling_sizes(256) == [8, 16, 32, 64, 128, 256]
    assert doubling_sizes(100) == [8, 16, 32, 64, 100]
    assert doubling_sizes(8) == [8]
    assert doubling_sizes(5) == [5]


def test_dependencies_emerge_with_the_number_of_categories():
    # §2.3: the curve that tells redundancy from the triviality of a full rank.
    (fit, _, _), (test, _, _) = logits(4000, 48, noise=0.3, seed=0), logits(3000, 48, noise=0.3, seed=1)

    def measure(chosen):
        return {"least squares": unexplained(fit[:, chosen], test[:, chosen])}

    (curve,) = emergence(48, [6, 12, 24, 48], measure).values()
    values = [curve[size] for size in (6, 12, 24, 48)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.3 * values[0]


def test_correlations_are_those_of_all_pairs_without_the_dead():
    found, _, _ = logits(500, 10)
    covariance = np.cov(found.T)
    assert np.allclose(correlations(covariance), np.corrcoef(found.T)[np.triu_indices(10, 1)])
    covariance[3], covariance[:, 3] = 0, 0
    with np.errstate(all="raise"):
        assert len(correlations(covariance)) == 9 * 8 // 2


def test_every_picture_can_be_saved(tmp_path):
    found, _, of = logits(500, 12)
    weights, _ = least_squares(found)
    covariance = np.cov(found.T)
    graph = dependency_graph(csr_array(weights), np.diag(covariance), [f"category {k}" for k in range(12)])
    made = {
        "emergence": pictures.emergence_picture({"5-sparse": {8: 0.5, 16: 0.2}, "dense": {8: 0.1, 16: 0.0}}),
        "correlation": pictures.correlation_picture({"trained": correlations(covariance)}),
        "spectrum": pictures.spectrum_picture(
            {"trained": covariance, "rank 1": np.ones((4, 4)), "dead": np.diag([1.0, 0.0])}
        ),
        "path": pictures.path_picture(np.array([2, 5, 9]), {"lasso": np.array([0.5, 0.2, 0.1])}),
        "graph": pictures.graph_picture(graph, 20, groups=of[:, 0].tolist()),
        "no edges": pictures.graph_picture(dependency_graph(csr_array((3, 3)), np.ones(3))),
    }
    for name, figure in made.items():
        figure.savefig(tmp_path / f"{name}.png", dpi=60)
        assert (tmp_path / f"{name}.png").stat().st_size > 1000
