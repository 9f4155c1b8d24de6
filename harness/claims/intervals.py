"""Student's interval of a mean, and the number of seeds with which an interval would decide."""

import math
import statistics
from collections.abc import Callable, Sequence

LEVEL = 0.95
# More seeds than this are not planned for: an effect so close to its gate cannot be told from it.
MAX_SEEDS = 1000
# Differences that agree to this share of their size are the same but for rounding.
ROUNDING = 1e-9


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % Student t interval of a mean, None for fewer than two values or any that is no number."""
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return None
    middle, spread = statistics.fmean(values), statistics.stdev(values)
    half = _quantile(len(values)) * spread / math.sqrt(len(values))
    return middle - half, middle + half


def is_constant(values: Sequence[float]) -> bool:
    """Return whether all values are the same but for rounding."""
    return max(values) - min(values) <= ROUNDING * max(map(abs, values))


def seeds_to_pass(values: Sequence[float], gate: float, power: float) -> int | None:
    """Return how many seeds put the interval of a mean wholly on one side of a gate.

    A paired t test: with n seeds the statistic is noncentral t with n - 1 degrees of freedom and noncentrality
    sqrt(n) |mean - gate| / sd, where mean and sd are those of the values.

    Args:
        values: differences of a few seeds, such as a pilot's; at least two.
        gate: on the side of the mean where it lies, the interval has to end before the gate.
        power: the probability with which it should.

    Returns:
        The least number, at least 2; None if more than MAX_SEEDS are needed.
    """
    return _least(lambda n: _power(n, abs(statistics.fmean(values) - gate), statistics.stdev(values)), power)


def seeds_to_equate(values: Sequence[float], margin: float, power: float) -> int | None:
    """Return how many seeds put the interval of a mean wholly between -margin and margin, or wholly outside.

    The two one-sided tests fail together at most as often as one after the other, so 1 less both chances of failing
    is the power that is had at least. Arguments and result as in `seeds_to_pass`.
    """
    mean, spread = abs(statistics.fmean(values)), statistics.stdev(values)
    if mean >= margin:
        return _least(lambda n: _power(n, mean - margin, spread), power)
    return _least(lambda n: _power(n, margin - mean, spread) + _power(n, margin + mean, spread) - 1, power)


def _least(power_of: Callable[[int], float], power: float) -> int | None:
    return next((n for n in range(2, MAX_SEEDS + 1) if power_of(n) >= power), None)


def _power(n: int, distance: float, spread: float) -> float:
    """Return the chance that the interval of n seeds ends before a gate at some distance from the mean."""
    from scipy.special import nctdtr

    if not spread:
        return float(distance > 0)
    return 1 - float(nctdtr(n - 1, math.sqrt(n) * distance / spread, _quantile(n)))


def _quantile(n: int) -> float:
    # Student's quantile; scipy.stats calls the same function, and takes twice as long to import.
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, (1 + LEVEL) / 2))
