"""Matching pursuit for all categories at once against scikit-learn's, one by one."""

import numpy as np
import pytest
from sklearn.linear_model import orthogonal_mp_gram

from lightning_modules.neural_dependency.solvers.omp import omp
from tests.neural_dependency.grams import gram


def test_agrees_with_scikit_learn():
    second = gram(256, 400)
    unit = second / np.sqrt(np.outer(second.diagonal(), second.diagonal()))
    found = omp(unit, 5)
    assert (np.diff(found.indptr) == 5).all()
    for target in range(0, 256, 17):
        others = np.delete(np.arange(256), target)
        reference = orthogonal_mp_gram(unit[np.ix_(others, others)], unit[others, target], n_nonzero_coefs=5)
        assert np.allclose(found.toarray()[target, others], reference, atol=1e-8)
    scale = np.sqrt(second.diagonal())
    assert np.allclose(omp(second, 5).toarray() * scale / scale[:, None], found.toarray(), atol=1e-8)


def test_stops_where_nothing_is_left():
    second = np.eye(6)
    second[0, 1] = second[1, 0] = 1.0
    second[5] = second[:, 5] = 0.0
    found = omp(second, 4).toarray()
    assert np.allclose(found[0], [0, 1, 0, 0, 0, 0])
    assert not found[2:].any()
    assert np.isfinite(omp(gram(20, 6), 10).data).all()


def test_between_networks():
    second = gram(20, 50)
    joint = np.block([[second, second], [second, second]])
    found = omp(joint, 1, targets=np.arange(20), sources=np.arange(20, 40))
    assert np.allclose(found.toarray(), np.eye(20, 40, 20))
    strict = omp(joint, 3, targets=np.arange(20), sources=np.arange(20, 40), exclude=np.arange(20, 40))
    assert np.allclose(strict.toarray()[:, 20:], omp(second, 3).toarray())


def test_no_terms_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        omp(np.eye(3), 0)
