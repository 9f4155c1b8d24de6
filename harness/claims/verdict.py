"""The rule of verdicts, written down here and nowhere else.

Runs are paired by seed. A part of a statement compares a method with a baseline: its difference for each seed, signed
so that positive is as claimed, has a mean (the effect) and a 95 % interval (Student's t on the paired differences, for
which two seeds are needed). With the least effect that the claim promises:

- holds: the whole interval is above zero and the effect is at least the least effect;
- fails: the whole interval is below the least effect (below or at zero where none is promised);
- undecided: anything else, and always with fewer than two seeds.

A least effect below zero is a margin (the method loses no more than that): the interval then has to be above the margin
to hold, and below it to fail.

A control shows what the effect would look like if its cause were another. The method's gain less the control's gain,
paired the same way, has to be above zero with its whole interval. Where its mean is zero or less, the control reaches
the method's gain and the part fails; in between, the part is undecided.

A statement takes the worst verdict of its parts and a claim the worst of its statements: fails, then undecided, then
holds.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

LEVEL = 0.95
WORST_FIRST = ("fails", "undecided", "holds")


class Judgement(NamedTuple):
    """A verdict with what it rests on; the interval is missing with fewer than two seeds."""

    verdict: str
    effect: float | None
    interval: tuple[float, float] | None
    reason: str


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % Student t interval of a mean, None for fewer than two values."""
    if len(values) < 2:
        return None
    # Student's quantile; scipy.stats calls the same function, and takes twice as long to import.
    from scipy.special import stdtrit

    middle, spread = statistics.fmean(values), statistics.stdev(values)
    half = float(stdtrit(len(values) - 1, (1 + LEVEL) / 2)) * spread / math.sqrt(len(values))
    return middle - half, middle + half


def judge(differences: Sequence[float], least: float) -> Judgement:
    """Judge the differences of method and baseline, one for each seed, positive = as claimed."""
    if len(differences) < 2 or not all(map(math.isfinite, differences)):
        few = f"{len(differences)} paired seed{'s' * (len(differences) != 1)}, at least two are needed"
        effect = statistics.fmean(differences) if differences else None
        return Judgement("undecided", effect, None, few if len(differences) < 2 else "a metric is not a finite number")
    effect, bounds = statistics.fmean(differences), interval(differences)
    assert bounds is not None
    low, high = bounds
    if least < 0:
        return _within(least, effect, bounds)
    if low > 0 and effect >= least:
        return Judgement("holds", effect, bounds, "the interval is above zero and the least effect is reached")
    if high < least or high <= 0:
        below = "zero" if high <= 0 else "the least effect"
        return Judgement("fails", effect, bounds, f"the whole interval is {'at or ' * (high == 0)}below {below}")
    why = "the interval includes zero" if low <= 0 else "the effect is below the least effect, but its interval is not"
    return Judgement("undecided", effect, bounds, why)


def _within(margin: float, effect: float, bounds: tuple[float, float]) -> Judgement:
    if bounds[0] > margin:
        return Judgement("holds", effect, bounds, "the interval is above the margin")
    if bounds[1] < margin:
        return Judgement("fails", effect, bounds, "the whole interval is below the margin")
    return Judgement("undecided", effect, bounds, "the interval includes the margin")


def judge_control(method_gains: Sequence[float], control_gains: Sequence[float]) -> Judgement:
    """Judge whether a method gains more than a control; the effect and interval are those of the control's own gain."""
    own = statistics.fmean(control_gains) if control_gains else None
    ahead = judge([m - c for m, c in zip(method_gains, control_gains, strict=True)], least=0.0)
    if ahead.verdict == "holds":
        return Judgement("holds", own, interval(control_gains), "it gains less than the method")
    if ahead.interval is None:
        return Judgement("undecided", own, None, ahead.reason)
    if (ahead.effect or 0.0) <= 0:
        return Judgement("fails", own, interval(control_gains), "it reaches the method's gain")
    return Judgement("undecided", own, interval(control_gains), "it may reach the method's gain")


def with_controls(judged: Judgement, controls: Iterable[tuple[str, Judgement]]) -> Judgement:
    """Return a part's verdict once its controls (name, judgement) are known."""
    for name, control in sorted(controls, key=lambda pair: WORST_FIRST.index(pair[1].verdict)):
        if judged.verdict == "holds" and control.verdict != "holds":
            return judged._replace(verdict=control.verdict, reason=f"the control '{name}': {control.reason}")
    return judged


def worst(verdicts: Iterable[str]) -> str:
    """Return the worst of several verdicts."""
    return min(verdicts, key=WORST_FIRST.index)
