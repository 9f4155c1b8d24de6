"""The rule of verdicts, written down here and nowhere else.

Runs are paired by seed. A part of a statement compares a method with a baseline: its difference for each seed, signed
so that positive is as claimed, has a mean (the effect) and a 95 % interval. Seeds change weights, order and data of
both arms alike, so the paired differences are what varies by chance; Student's t is exact for as few of them as we
have, if they are roughly normal. The gate is the part's least effect, 0 where only a direction is claimed, negative
where the method may lose that much:

- holds: the whole interval is above the gate;
- fails: the whole interval is at or below the gate;
- undecided: anything else, and always with fewer than two seeds.

The interval is judged, not the mean: a mean above a gate that its interval includes may be luck.

Where every seed gives the same difference, an interval of no width would decide anything. Such a part is undecided: the
two arms are one experiment, or the metric is constant. What is the same for every seed by its nature, such as a count,
a size or a round trip, is declared deterministic: it is judged on one run and has to be the same on a second.

A limit says where the effect ends. Finding no difference does not show that there is none, so it is judged as an
equivalence, by two one-sided tests against a margin that was stated beforehand: as expected, if the whole interval is
between minus the margin and the margin; not as expected, if the whole interval is outside; else undecided. With a
ceiling, the largest effect that this world allows, the effect is held against the ceiling in place of zero. The tests
are at 2.5 % each, the usual 5 % made stricter, so that one interval serves for everything. Without a margin a limit is
not judged.

A control lacks the cause. The method's gain less the control's gain, paired the same way, has to be above zero with its
whole interval. If not, it takes *holds* away: to *fails*, where the whole interval is at or below a margin stated
beforehand (half of the least effect unless said), since the gain then needs no cause; else to *undecided*. A control
that equals the method for every seed makes it fail.

A sanity statement says that the experiment can show anything: baselines above their floor, ceilings reached. It passed
only if it holds. One that failed makes the statements that it guards void.

A statement has the worst verdict of its parts: fails, then undecided, then holds. The verdict of the claim is the worst
of the statements that are the paper's own, and void where one of these is. Statements of other roles, which we add,
change nothing in it.

No level is corrected for the number of tests (no Holm, no Bonferroni). To hold, a claim needs every part of every
statement of the paper, and all of them pass wrongly no more often than one of them would: in 2.5 %. That one of many
true parts fails wrongly becomes more likely with their number, by 2.5 % for each; that error is to our own
disadvantage, and Holm's correction would make every interval of a claim depend on the others. The number of seeds does
count them: each of k statements of the paper gets the power 1 - 0.2 / k, and each of its p parts 1 - 0.2 / (k p), so
that all together have 0.8 at least.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from harness.claims.intervals import interval, is_constant

# The worst first. Those of one role stand together.
WORST_FIRST = (
    "void",
    "fails",
    "failed",
    "not as expected",
    "undecided",
    "as expected",
    "passed",
    "holds",
)
NOT_JUDGED = "not judged: no margin was stated before the runs"
# The power of a claim's verdict, for which seeds are planned.
POWER = 0.8

Bounds = tuple[float, float]


class Judgement(NamedTuple):
    """A verdict with what it rests on; the interval is missing with fewer than two seeds."""

    verdict: str
    effect: float | None
    interval: Bounds | None
    reason: str


def judge(differences: Sequence[float], gate: float, *, deterministic: bool = False) -> Judgement:
    """Judge the differences of method and baseline, one for each seed, positive = as claimed."""
    measured = _measured(differences, deterministic)
    if isinstance(measured, Judgement):
        return measured
    effect, (low, high) = measured
    named = "the gate" if gate > 0 else "the margin" if gate < 0 else "zero"
    what = "the same on every run, and" if deterministic else "the whole interval is"
    if low > gate:
        return Judgement("holds", effect, (low, high), f"{what} above {named}")
    if high <= gate:
        return Judgement("fails", effect, (low, high), f"{what} {'at or ' * (high == gate)}below {named}")
    return Judgement("undecided", effect, (low, high), f"the interval includes {named}")


def judge_limit(
    differences: Sequence[float],
    margin: float | None,
    *,
    from_ceiling: Sequence[float] | None = None,
    deterministic: bool = False,
) -> Judgement:
    """Judge whether an effect is equivalent to zero, or to its ceiling.

    Args:
        differences: method and baseline for each seed.
        margin: how far the effect may lie from zero or the ceiling; None is not judged.
        from_ceiling: the differences less the ceiling, if there is one.
        deterministic: whether all runs have to give the same.
    """
    own = judge(differences, 0.0, deterministic=deterministic)
    if margin is None:
        return own._replace(verdict="undecided", reason=NOT_JUDGED)
    measured = _measured(differences if from_ceiling is None else from_ceiling, deterministic)
    if isinstance(measured, Judgement):
        return measured._replace(effect=own.effect, interval=own.interval)
    _, (low, high) = measured
    place = "zero" if from_ceiling is None else "the ceiling"
    if deterministic:
        inside, outside = abs(low) <= margin, abs(low) > margin
    else:
        inside, outside = -margin < low and high < margin, low >= margin or high <= -margin
    verdict, where = "undecided", "the interval includes the margin"
    if inside or outside:
        verdict = "as expected" if inside else "not as expected"
        where = f"the whole interval is {'within' if inside else 'outside'} the margin around {place}"
    return Judgement(verdict, own.effect, own.interval, where)


def judge_control(
    method_gains: Sequence[float], control_gains: Sequence[float], margin: float, *, deterministic: bool = False
) -> Judgement:
    """Judge whether a method gains more than a control.

    Args:
        method_gains: the method's gain for each seed.
        control_gains: the control's, for the same seeds.
        margin: where the method's lead is wholly below it, the control fails the method.
        deterministic: whether all runs have to give the same.

    Returns:
        Verdict, mean and interval of the method's lead over the control.
    """
    lead = [method - control for method, control in zip(method_gains, control_gains, strict=True)]
    judged = judge(lead, 0.0, deterministic=deterministic)
    if judged.verdict == "holds":
        return judged._replace(reason="the gain over it is above zero")
    if judged.interval is None:
        return judged
    if not any(lead):
        return judged._replace(verdict="fails", reason="it equals the method for every seed")
    if judged.interval[1] <= margin and (deterministic or not is_constant(lead)):
        size = f"at or below {margin:g}" if margin else "at or below zero"
        return judged._replace(verdict="fails", reason=f"the whole gain over it is {size}")
    return judged._replace(verdict="undecided", reason="the gain over it may be zero")


def with_controls(judged: Judgement, controls: Iterable[tuple[str, Judgement]]) -> Judgement:
    """Return a part's verdict once its controls (name, judgement) are known."""
    for name, control in sorted(controls, key=lambda pair: WORST_FIRST.index(pair[1].verdict)):
        if judged.verdict == "holds" and control.verdict != "holds":
            return judged._replace(verdict=control.verdict, reason=f"the control '{name}': {control.reason}")
    return judged


def worst(verdicts: Iterable[str]) -> str:
    """Return the worst of several verdicts."""
    return min(verdicts, key=WORST_FIRST.index)


def _measured(differences: Sequence[float], deterministic: bool) -> Judgement | tuple[float, Bounds]:
    """Return mean and interval of some differences, or why they decide nothing."""
    if len(differences) < 2:
        needed = "it has to be the same on a second" if deterministic else "at least two are needed"
        few = f"{len(differences)} paired seed{'s' * (len(differences) != 1)}, {needed}"
        return Judgement("undecided", differences[0] if differences else None, None, few)
    if not all(map(math.isfinite, differences)):
        return Judgement("undecided", None, None, "a metric is not a finite number")
    effect, bounds = statistics.fmean(differences), interval(differences)
    assert bounds is not None
    if deterministic and not is_constant(differences):
        return Judgement("undecided", effect, bounds, "declared deterministic, but its runs differ")
    if deterministic:
        return effect, (differences[0], differences[0])
    if is_constant(differences):
        same = "every seed gives the same difference: the arms are one experiment, or the metric is constant"
        return Judgement("undecided", effect, bounds, same)
    return effect, bounds
