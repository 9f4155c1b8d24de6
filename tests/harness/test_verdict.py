"""The rule of verdicts, case by case, against hand-computed intervals."""

import math

import pytest

from harness.claims.verdict import NOT_JUDGED, judge, judge_control, judge_limit, with_controls, worst

# Mean 10, standard deviation 1: with t(0.975, 2) = 4.302653 the interval is 10 -+ 2.484138.
TEN = [9.0, 10.0, 11.0]
# Mean 0, standard deviation 0.1: the interval is 0 -+ 0.248414.
NIL = [-0.1, 0.0, 0.1]


@pytest.mark.parametrize(
    ("differences", "gate", "verdict"),
    [
        (TEN, 7.51, "holds"),  # its lower end is 7.515862
        (TEN, 7.52, "undecided"),  # the mean is far above the gate, the interval is not
        (TEN, 12.48, "undecided"),  # its upper end is 12.484138
        (TEN, 12.49, "fails"),
        (TEN, 0, "holds"),
        ([-3.0, -3.1, -2.9], 0, "fails"),
        ([-3.0, -3.1, -2.9], 1, "fails"),
        ([5.0, -4.0, 6.0], 0, "undecided"),
        ([100.0], 0, "undecided"),
        ([], 0, "undecided"),
        ([1.0, math.nan], 0, "undecided"),
        (NIL, -0.25, "holds"),  # no worse than by the margin
        (NIL, -0.24, "undecided"),
        ([-2.0, -2.1, -1.9], -0.5, "fails"),
    ],
)
def test_the_interval_is_held_against_the_gate(differences, gate, verdict):
    assert judge(differences, gate).verdict == verdict


def test_two_effects_at_one_gate():
    # Two tuners of docs/results/u_tuning.json: the larger mean, with a wide interval, shows less than the smaller one.
    narrow, wide = [7.19, 7.40, 6.95], [7.72, 11.93, 7.45]
    assert judge(narrow, 8).verdict == "fails"
    assert judge(wide, 8).verdict == "undecided"
    assert judge(wide, 8).effect > 8 > judge(narrow, 8).effect


def test_two_seeds_decide_only_what_is_far_from_zero():
    # t(0.975, 1) = 12.7062: 10.1 -+ 1.27062 and 8 -+ 25.4124.
    assert judge([10.0, 10.2], 8.8).verdict == "holds"
    assert judge([10.0, 10.2], 8.9).verdict == "undecided"
    assert judge([10.0, 6.0], 0).verdict == "undecided"


def test_the_reason_names_the_missing_seeds():
    assert judge([1.0], 0).reason == "1 paired seed, at least two are needed"


@pytest.mark.parametrize(("difference", "gate"), [(0.0, 0), (0.0, -0.5), (0.0, 1), (7.0, 5), (-7.0, 5)])
def test_the_same_for_every_seed_decides_nothing(difference, gate):
    # Two arms that are one experiment, or a metric that is constant: the interval has no width.
    judged = judge([difference] * 3, gate)
    assert judged.verdict == "undecided"
    assert "the arms are one experiment, or the metric is constant" in judged.reason
    assert judge_limit([difference] * 3, 10.0).verdict == "undecided"


@pytest.mark.parametrize(
    ("values", "gate", "verdict"),
    [
        ([0.7, 0.7], 0, "holds"),
        ([0.7, 0.7], 0.7, "fails"),  # not more than what was to be exceeded
        ([0.7, 0.7, 0.7], 1, "fails"),
        ([0.7], 0, "undecided"),  # not repeated yet
        ([0.7, 0.8], 0, "undecided"),  # not deterministic
        ([0.1 + 0.2, 0.3], 0.2, "holds"),
    ],
)
def test_a_deterministic_part_is_judged_on_one_run_and_repeated_on_a_second(values, gate, verdict):
    assert judge(values, gate, deterministic=True).verdict == verdict


def test_a_deterministic_part_says_what_is_wrong():
    assert judge([0.7], 0, deterministic=True).reason == "1 paired seed, it has to be the same on a second"
    assert judge([0.7, 0.8], 0, deterministic=True).reason == "declared deterministic, but its runs differ"


@pytest.mark.parametrize(
    ("differences", "margin", "verdict"),
    [
        (NIL, 0.25, "as expected"),  # 0 -+ 0.248414 is within the margin
        (NIL, 0.24, "undecided"),
        ([-0.9, 1.0, 0.2], 0.5, "undecided"),  # nothing is shown by an interval that includes everything
        (TEN, 7.5, "not as expected"),
        (TEN, 8, "undecided"),
        ([-11.0, -10.0, -9.0], 7.5, "not as expected"),
        ([0.1], 1, "undecided"),
    ],
)
def test_a_limit_is_an_equivalence(differences, margin, verdict):
    assert judge_limit(differences, margin).verdict == verdict


def test_equivalence_is_two_one_sided_tests():
    from scipy.stats import ttest_1samp

    for margin in (0.2, 0.24, 0.248, 0.249, 0.3, 1.0):
        sides = (ttest_1samp(NIL, -margin, alternative="greater"), ttest_1samp(NIL, margin, alternative="less"))
        both = max(float(side.pvalue) for side in sides) < 0.025
        assert (judge_limit(NIL, margin).verdict == "as expected") is both


def test_a_limit_without_a_margin_is_not_judged():
    judged = judge_limit(TEN, None)
    assert (judged.verdict, judged.reason, judged.effect) == ("undecided", NOT_JUDGED, 10.0)


def test_a_limit_may_be_held_against_its_ceiling():
    # The effect of 10 is 0.5 below a ceiling of 10.5, with the spread of the differences.
    from_ceiling = [-0.6, -0.5, -0.4]
    judged = judge_limit(TEN, 0.8, from_ceiling=from_ceiling)
    assert (judged.verdict, judged.effect) == ("as expected", 10.0)
    assert judge_limit(TEN, 0.7, from_ceiling=from_ceiling).verdict == "undecided"  # -0.5 -+ 0.248414
    assert judge_limit(TEN, 0.2, from_ceiling=from_ceiling).verdict == "not as expected"
    assert judge_limit([5, 5], 0, from_ceiling=[0, 0], deterministic=True).verdict == "as expected"
    assert judge_limit([1.0, float("nan")], 1.0).verdict == "undecided"
    assert judge_limit([5, 5], 0, from_ceiling=[-1, -1], deterministic=True).verdict == "not as expected"


@pytest.mark.parametrize(
    ("control", "verdict"),
    [
        ([0.1, -0.2, 0.0], "holds"),
        ([8.9, 10.0, 11.1], "fails"),  # the lead is 0 -+ 0.248414, wholly below half of the gate
        ([12.0, 13.1, 14.0], "fails"),
        (TEN, "fails"),  # it equals the method for every seed
        ([3.0, 12.0, 9.0], "undecided"),  # the lead is 2 with a wide interval
        ([8.5, 9.4, 10.6], "holds"),  # the lead of 0.5 is above zero, though below the margin
        ([9.0], "undecided"),
    ],
)
def test_a_control_lacks_the_cause(control, verdict):
    gains = TEN[: len(control)]
    judged = judge(TEN, 5)
    assert judged.verdict == "holds"
    final = with_controls(judged, [("shuffled", judge_control(gains, control, margin=2.5))])
    assert final.verdict == verdict
    assert ("shuffled" in final.reason) == (verdict != "holds")


def test_a_control_like_the_method_is_no_coin():
    # The lead is -0.01 or 0.01 in the mean: neither is above zero, and no margin was stated below which both lie.
    for lead in ([-0.3, 0.1, 0.17], [-0.17, -0.1, 0.3]):
        control = [gain - more for gain, more in zip(TEN, lead, strict=True)]
        assert judge_control(TEN, control, margin=0.0).verdict == "undecided"
        assert judge_control(TEN, control, margin=1.0).verdict == "fails"


def test_a_control_cannot_mend_a_verdict_and_the_worst_control_is_named():
    good, bad = judge_control(TEN, [0.0, 0.1, 0.0], 1.0), judge_control(TEN, TEN, 1.0)
    assert with_controls(judge([-1.0, -1.1, -1.0], 0), [("good", good)]).verdict == "fails"
    final = with_controls(judge(TEN, 0), [("good", good), ("bad", bad)])
    assert (final.verdict, "bad" in final.reason) == ("fails", True)
    missing = judge_control([], [], 1.0)
    assert with_controls(judge(TEN, 0), [("missing", missing)]).verdict == "undecided"


def test_the_worst_verdict():
    assert worst(["holds", "undecided", "holds"]) == "undecided"
    assert worst(["undecided", "fails", "holds"]) == "fails"
    assert worst(["fails", "void"]) == "void"
    assert worst(["as expected", "not as expected", "undecided"]) == "not as expected"
    assert worst(["passed", "failed"]) == "failed"
