import itertools

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from lightning_modules.uosr.unified_metrics import mean_over_tries, unified_metrics


def _random(seed=0, ties=False):
    rng = np.random.default_rng(seed)
    known, ood = rng.normal(0, 1, 300), rng.normal(1, 1, 200)
    if ties:
        known, ood = known.round(), ood.round()
    return known, rng.random(300) < 0.7, ood


def _slow_aurc(known, correct, ood):
    scores, errors = np.concatenate([known, ood]), np.concatenate([~correct, np.ones(len(ood), bool)])
    risks = errors[np.argsort(scores)].cumsum() / np.arange(1, len(scores) + 1)
    return 1000 * risks.mean()


@pytest.mark.parametrize("ties", [False, True])
def test_the_five_aurocs_are_scikit_learns(ties):
    known, correct, ood = _random(ties=ties)
    got = unified_metrics(known, correct, ood)

    def auroc(accept, reject):
        labels = np.repeat([0, 1], [len(accept), len(reject)])
        return 100 * roc_auc_score(labels, np.concatenate([accept, reject]))

    inc, inw = known[correct], known[~correct]
    expected = {
        "osr": auroc(known, ood),
        "uosr": auroc(inc, np.concatenate([inw, ood])),
        "inc_ood": auroc(inc, ood),
        "inc_inw": auroc(inc, inw),
        "inw_ood": auroc(inw, ood),
    }
    assert {name: got[name] for name in expected} == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("ties", [False, True])
def test_the_two_identities_hold_exactly(ties):
    known, correct, ood = _random(1, ties)
    m = unified_metrics(known, correct, ood)
    acc = m["acc"] / 100
    assert m["osr"] == pytest.approx(acc * m["inc_ood"] + (1 - acc) * m["inw_ood"], abs=1e-11)
    rejected = m["n_inw"] + m["n_ood"]
    uosr = (m["n_inw"] * m["inc_inw"] + m["n_ood"] * m["inc_ood"]) / rejected
    assert m["uosr"] == pytest.approx(uosr, abs=1e-11)


def test_aupr_and_fpr_are_scikit_learns():
    for ties in (False, True):
        known, correct, ood = _random(2, ties)
        got = unified_metrics(known, correct, ood)
        scores, labels = np.concatenate([known, ood]), np.concatenate([~correct, np.ones(len(ood), bool)])
        assert got["aupr"] == pytest.approx(100 * average_precision_score(labels, scores))
        false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
        assert got["fpr95"] == pytest.approx(100 * false[np.abs(true - 0.95).argmin()])


def test_hand_computed_values():
    m = unified_metrics([0.1, 0.4, 0.2, 0.3], [True, True, False, False], [0.3, 0.5])
    # Pairs: InC 0.1, 0.4; InW 0.2, 0.3; OoD 0.3, 0.5.
    assert (m["inc_inw"], m["inc_ood"], m["inw_ood"]) == (50, 75, 87.5)
    assert m["acc"] == 50
    assert (m["n_inc"], m["n_inw"], m["n_ood"]) == (2, 2, 2)
    # Errors in order: 0 | 1 | (1, 1) | 0 | 1.
    assert m["aurc"] == pytest.approx(1000 * np.mean([0, 1 / 2, 2 / 3, 3 / 4, 3 / 5, 4 / 6]))


def test_perfect_order_gives_the_oracle_of_the_paper():
    known, correct = np.repeat([0.0, 1.0], [7328, 2672]), np.repeat([True, False], [7328, 2672])
    m = unified_metrics(known, correct, np.full(10_000, 2.0))
    assert m["aurc"] == pytest.approx(265.74, abs=0.005)
    assert m["acc"] == pytest.approx(73.28)
    # The continuous form of the oracle differs from the sum by the order of 1 / N.
    assert m["eaurc"] == pytest.approx(0, abs=0.1)
    assert m["fpr95"] == 0


def test_aurc_is_the_plain_mean_and_does_not_depend_on_sample_order():
    known, correct, ood = _random(3)
    assert unified_metrics(known, correct, ood)["aurc"] == pytest.approx(_slow_aurc(known, correct, ood), abs=1e-9)
    known, ood = known.round(1), ood.round(1)
    expected = unified_metrics(known, correct, ood)
    order, other = np.random.default_rng(0).permutation(300), np.random.default_rng(1).permutation(200)
    shuffled = unified_metrics(known[order], correct[order], ood[other])
    assert shuffled == pytest.approx(expected, abs=1e-9)


def test_aurc_of_ties_is_the_mean_over_all_orders():
    known, correct, ood = np.array([0.0, 1, 1]), np.array([True, True, False]), np.array([1.0, 2.0])
    errors, groups = np.array([0, 0, 1, 1, 1]), [[0], [1, 2, 3], [4]]
    orders = [list(itertools.chain(*parts)) for parts in itertools.product(*map(itertools.permutations, groups))]
    expected = np.mean([np.mean(errors[order].cumsum() / np.arange(1, 6)) for order in orders])
    assert unified_metrics(known, correct, ood)["aurc"] == pytest.approx(1000 * expected, abs=1e-10)


def test_misclassified_are_the_negatives_of_inw_ood():
    m = unified_metrics([0.0, 0.0, -1.0], [False, False, True], [1.0, 1.0])
    assert m["inw_ood"] == 100
    assert unified_metrics([1.0, 1.0, -1.0], [False, False, True], [0.0, 0.0])["inw_ood"] == 0


def test_a_monotone_transform_changes_nothing():
    known, correct, ood = _random(4)
    assert unified_metrics(np.exp(known), correct, np.exp(ood)) == pytest.approx(unified_metrics(known, correct, ood))


def test_a_kind_without_samples_gives_nan_not_a_number_out_of_the_air():
    m = unified_metrics(torch.tensor([0.1, 0.2]), torch.tensor([True, True]), torch.tensor([0.3]))
    assert np.isnan(m["inc_inw"])
    assert np.isnan(m["inw_ood"])
    assert m["uosr"] == m["osr"] == 100


@pytest.mark.parametrize(
    ("known", "correct", "message"),
    [([0.1, np.nan], [True, True], "1 of 3 scores are not a number"), ([0.1], [True, True], "scores")],
)
def test_bad_scores_are_refused(known, correct, message):
    with pytest.raises(ValueError, match=message):
        unified_metrics(known, correct, [0.5])


def test_tries_are_averaged():
    known, correct, ood = _random(5)
    both = mean_over_tries(np.stack([known, -known]), correct, np.stack([ood, -ood]))
    one, other = unified_metrics(known, correct, ood), unified_metrics(-known, correct, -ood)
    assert both == pytest.approx({name: (one[name] + other[name]) / 2 for name in one})
    assert isinstance(both["n_inc"], int)
