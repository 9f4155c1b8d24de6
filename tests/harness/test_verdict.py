"""The rule of verdicts, case by case, against hand-computed intervals."""

import math

import pytest

from harness.claims.verdict import interval, judge, judge_control, with_controls, worst


def test_the_interval_is_students():
    # Mean 2, standard deviation 1, n = 3: t(0.975, 2) = 4.302653, half width 4.302653 / sqrt(3).
    low, high = interval([1.0, 2.0, 3.0])
    assert low == pytest.approx(2 - 4.3026527 / math.sqrt(3))
    assert high == pytest.approx(2 + 4.3026527 / math.sqrt(3))
    assert interval([1.0]) is None


@pytest.mark.parametrize(
    ("differences", "least", "verdict"),
    [
        ([10.1, 9.7, 10.4], 5, "holds"),
        ([10.1, 9.7, 10.4], 12, "fails"),  # clearly there, clearly less than promised
        ([10.1, 9.7, 10.4], 10.3, "undecided"),  # below the least effect, but the interval reaches it
        ([-3.0, -3.1, -2.9], 0, "fails"),
        ([-3.0, -3.1, -2.9], 1, "fails"),
        ([5.0, -4.0, 6.0], 0, "undecided"),
        ([0.0, 0.0, 0.0], 0, "fails"),  # nothing changed at all
        ([0.0, 0.0, 0.0], 1, "fails"),
        ([100.0], 0, "undecided"),
        ([], 0, "undecided"),
        ([1.0, math.nan], 0, "undecided"),
        ([-0.1, 0.1, 0.0], -0.5, "holds"),  # no worse than by the margin
        ([-2.0, -2.1, -1.9], -0.5, "fails"),
        ([-2.0, 1.0, 0.5], -0.5, "undecided"),
    ],
)
def test_the_rule(differences, least, verdict):
    assert judge(differences, least).verdict == verdict


def test_two_seeds_decide_only_what_is_far_from_zero():
    assert judge([10.0, 10.2], 0).verdict == "holds"
    assert judge([10.0, 6.0], 0).verdict == "undecided"


def test_the_reason_names_the_missing_seeds():
    assert judge([1.0], 0).reason == "1 paired seed, at least two are needed"


@pytest.mark.parametrize(
    ("control", "verdict"),
    [
        ([0.1, -0.2, 0.0], "holds"),
        ([10.2, 9.9, 10.3], "fails"),
        ([12.0, 12.0, 12.0], "fails"),
        ([3.0, 12.0, 6.0], "undecided"),
    ],
)
def test_a_control_that_reaches_the_gain_takes_the_verdict_away(control, verdict):
    gains = [10.0, 9.7, 10.4]
    judged = judge(gains, 5)
    assert judged.verdict == "holds"
    final = with_controls(judged, [("shuffled", judge_control(gains, control))])
    assert final.verdict == verdict
    assert ("shuffled" in final.reason) == (verdict != "holds")


def test_a_control_cannot_mend_a_verdict_and_the_worst_control_is_named():
    gains = [10.0, 9.7, 10.4]
    good, bad = judge_control(gains, [0.0, 0.1, 0.0]), judge_control(gains, gains)
    assert with_controls(judge([-1.0, -1.1, -1.0], 0), [("good", good)]).verdict == "fails"
    final = with_controls(judge(gains, 0), [("good", good), ("bad", bad)])
    assert (final.verdict, "bad" in final.reason) == ("fails", True)
    missing = judge_control([], [])
    assert with_controls(judge(gains, 0), [("missing", missing)]).verdict == "undecided"


def test_the_worst_verdict():
    assert worst(["holds", "undecided", "holds"]) == "undecided"
    assert worst(["undecided", "fails", "holds"]) == "fails"
