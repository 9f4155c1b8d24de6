"""Student's interval, and the seeds that would decide, against published tables of power and scipy's own t."""

import math
import statistics

import pytest
from scipy.stats import nct, t

from harness.claims.conclusion import summary
from harness.claims.intervals import MAX_SEEDS, interval, is_constant, seeds_to_equate, seeds_to_pass


def around(mean, spread=1.0):
    """Return two values with a mean and a standard deviation."""
    half = spread / math.sqrt(2)
    return [mean - half, mean + half]


def test_values_that_are_no_numbers_have_no_interval():
    assert interval([1.0, math.nan]) is None
    assert interval([1.0, math.inf, 2.0]) is None
    assert summary([1.0, math.nan])["interval"] is None


def test_the_interval_is_students():
    # Mean 2, standard deviation 1, n = 3: t(0.975, 2) = 4.302653, half width 4.302653 / sqrt(3).
    low, high = interval([1.0, 2.0, 3.0])
    assert low == pytest.approx(2 - 4.3026527 / math.sqrt(3))
    assert high == pytest.approx(2 + 4.3026527 / math.sqrt(3))
    assert interval([1.0]) is None


@pytest.mark.parametrize(("effect", "seeds"), [(1.0, 10), (0.8, 15), (0.5, 34)])
def test_the_seeds_of_a_paired_t_test_are_those_of_the_tables(effect, seeds):
    # Two-sided 5 %, power 0.8: large, "0.8" and medium effects in units of the standard deviation.
    assert seeds_to_pass(around(effect), 0.0, 0.8) == seeds
    assert seeds_to_pass(around(-effect), 0.0, 0.8) == seeds
    assert seeds_to_pass(around(effect + 7), 7.0, 0.8) == seeds


def test_power_is_scipys_noncentral_t():
    values, power = [0.4, 1.9, 1.2, 0.1], 0.95
    found = seeds_to_pass(values, 0.0, power)
    size = statistics.fmean(values) / statistics.stdev(values)

    def chance(n):
        return 1 - nct.cdf(t.ppf(0.975, n - 1), n - 1, math.sqrt(n) * size)

    assert chance(found) >= power > chance(found - 1)


def test_more_power_asks_for_more_seeds_and_a_mean_at_its_gate_for_too_many():
    assert seeds_to_pass(around(1.0), 0.0, 0.95) > seeds_to_pass(around(1.0), 0.0, 0.8)
    assert seeds_to_pass(around(3.0), 3.0, 0.8) is None
    assert seeds_to_pass(around(0.01), 0.0, 0.8) is None
    assert seeds_to_pass(around(0.2), 0.0, 0.8) < MAX_SEEDS
    assert seeds_to_pass([5.0, 5.0], 0.0, 0.8) == 2


def test_seeds_for_equivalence():
    # With the mean at zero both one-sided tests have to pass: each with 0.9 gives 0.8 together.
    assert seeds_to_equate(around(0.0), 1.0, 0.8) == seeds_to_pass(around(1.0), 0.0, 0.9)
    # A mean near one end is decided by that end alone.
    assert seeds_to_equate(around(0.5), 1.0, 0.8) == seeds_to_pass(around(0.5), 0.0, 0.8)
    # Outside the margin it shows that there is an effect.
    assert seeds_to_equate(around(2.0), 1.0, 0.8) == seeds_to_pass(around(1.0), 0.0, 0.8)
    assert seeds_to_equate(around(1.0), 1.0, 0.8) is None


@pytest.mark.parametrize(
    ("values", "constant"),
    [
        ([0.0, 0.0], True),
        ([0.3, 0.1 + 0.2], True),
        ([1.0, 1.001], False),
        ([-2.0, 2.0], False),
        ([-1e-9, 1e-9], False),
    ],
)
def test_what_is_constant_but_for_rounding(values, constant):
    assert is_constant(values) is constant
