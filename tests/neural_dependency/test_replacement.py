import numpy as np
import pytest
from scipy.sparse import csr_array, random_array

from lightning_modules.neural_dependency.structure import replacement
from lightning_modules.neural_dependency.structure.replacement import replace_each
from tests.neural_dependency.synthetic import least_squares, logits


def slowly(found, labels, weights, intercept, source):
    """The definition: put the prediction in the place of the logit, and classify anew."""
    columns = []
    for i in range(found.shape[1]):
        changed = found.astype(np.float64)
        changed[:, i] = source @ weights[i] + intercept[i]
        said = changed.argmax(axis=1)
        mine = labels == i
        columns.append(((said == i)[mine].mean(), (said == labels).mean(), (said == i)[~mine].sum()))
    return np.array(columns).T


@pytest.mark.parametrize("held", [1, 700, 16_000_000])
@pytest.mark.parametrize("between", [False, True])
def test_it_is_what_the_definition_says(monkeypatch, held, between):
    monkeypatch.setattr(replacement, "_HELD", held)
    rng = np.random.default_rng(0)
    found, labels = rng.standard_normal((200, 12)).round(1).astype(np.float32), rng.integers(12, size=200)
    source = rng.standard_normal((200, 9)) if between else found
    weights = random_array((12, source.shape[1]), density=0.3, rng=rng).toarray()
    if not between:
        np.fill_diagonal(weights, 0)
    intercept = rng.standard_normal(12)
    result = replace_each(found, labels, csr_array(weights), intercept=intercept, source=source if between else None)
    positive, everything, false = slowly(found, labels, weights, intercept, source)
    assert np.allclose(result.positive_after, positive)
    assert np.allclose(result.all_after, everything)
    assert np.array_equal(result.false_after, false)
    said = found.argmax(axis=1)
    assert result.all_before == (said == labels).mean()
    assert np.allclose(result.positive_before, [(said == i)[labels == i].mean() for i in range(12)])
    assert np.array_equal(result.false_before, [((said == i) & (labels != i)).sum() for i in range(12)])


def test_ties_go_as_argmax_has_them():
    found = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    labels = np.array([0, 1, 2, 0])
    for weights in ([[0, 1, 0], [1, 0, 0], [0, 1, 0]], [[0, 0, 1], [0, 0, 1], [1, 0, 0]]):
        result = replace_each(found, labels, csr_array(np.array(weights, float)))
        positive, everything, false = slowly(found, labels, np.array(weights, float), np.zeros(3), found)
        assert np.allclose(result.positive_after, positive)
        assert np.allclose(result.all_after, everything)
        assert np.array_equal(result.false_after, false)


def test_a_perfect_prediction_changes_nothing():
    rng = np.random.default_rng(0)
    found, labels = rng.standard_normal((300, 10)), rng.integers(10, size=300)
    found[:, 3] = found[:, 1] - 2 * found[:, 4]
    weights = np.zeros((10, 10))
    weights[3, [1, 4]] = 1, -2
    result = replace_each(found, labels, csr_array(weights))
    assert result.positive_after[3] == result.positive_before[3]
    assert result.all_after[3] == result.all_before
    assert result.false_after[3] == result.false_before[3]


def test_a_constant_prediction_ruins_positive_accuracy_and_hardly_moves_the_overall_one():
    # §2.4: the accuracy over all samples alone would call this a success.
    found, labels, _ = logits(6000)
    found, labels = found.numpy(), labels.numpy()
    constant = replace_each(found, labels, csr_array((24, 24)), intercept=found.mean(axis=0)).means()
    assert constant["positive_before"] > 0.6
    assert constant["positive_after"] < 0.1 * constant["positive_before"]
    assert constant["all_before"] - constant["all_after"] < 0.05
    weights, intercept = least_squares(found)
    fitted = replace_each(found, labels, csr_array(weights), intercept=intercept).means()
    assert fitted["positive_after"] > constant["positive_after"] + 0.2


def test_shrunken_and_refit_coefficients_differ():
    # §2.4: shrinkage alone lowers the positive accuracy, so both are reported by the caller.
    found, labels, _ = logits(6000)
    found, labels = found.numpy(), labels.numpy()
    weights, _ = least_squares(found)
    by = {}
    for share in (0.5, 1.0):
        intercept = found.mean(axis=0) * 1.0 - share * weights @ found.mean(axis=0)
        by[share] = replace_each(found, labels, csr_array(share * weights), intercept=intercept).means()
    assert by[0.5]["positive_after"] < by[1.0]["positive_after"] - 0.1


def test_categories_without_samples_are_left_out_of_the_means():
    found, labels = np.eye(4)[[0, 1, 2]], np.array([0, 1, 2])
    result = replace_each(found, labels, csr_array((4, 4)), intercept=np.full(4, 2.0))
    assert np.isnan(result.positive_before[3])
    assert result.samples.tolist() == [1, 1, 1, 0]
    assert result.false_after.tolist() == [2, 2, 2, 3]
    assert np.isfinite(list(result.means().values())).all()


def test_what_cannot_be_is_refused():
    found, labels = np.zeros((5, 3)), np.zeros(5, int)
    with pytest.raises(ValueError, match="do not fit"):
        replace_each(found, labels[:4], csr_array((3, 3)))
    with pytest.raises(ValueError, match="predicted from itself"):
        replace_each(found, labels, csr_array(np.eye(3)))
    # From another network the own category may be used.
    replace_each(found, labels, csr_array(np.eye(3)), source=found)
    with pytest.raises(ValueError, match="no rival"):
        replace_each(found[:, :1], labels, csr_array((1, 1)))


def test_rows_of_two_networks_have_to_be_aligned():
    # §2.5: from itself with the own category included nothing changes; with shuffled rows nearly all is lost.
    found, labels, _ = logits(3000)
    found, labels, own = found.numpy(), labels.numpy(), csr_array(np.eye(24))
    aligned = replace_each(found, labels, own, source=found).means()
    assert aligned["positive_after"] == aligned["positive_before"]
    assert aligned["false_after"] == aligned["false_before"]
    order = np.random.default_rng(0).permutation(3000)
    assert replace_each(found, labels, own, source=found[order]).means()["positive_after"] < 0.2
