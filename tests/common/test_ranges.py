"""Ranges of numbers: what they hold, what they are called, and constructors that keep to them."""

from typing import Annotated, NotRequired, TypedDict

import pytest

from common.ranges import (
    ALIASES,
    FieldOfView,
    Fraction,
    FractionBelowOne,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Range,
    Ranged,
)


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "text"),
    [
        (Range(low=1), (1, 10**400), (0, -1, float("nan"), float("inf")), ", at least 1"),
        (Range(above=0), (1e-300,), (0, 0.0, float("nan"), float("inf")), " above 0"),
        (Range(low=0, high=1), (0, 1, 0.5), (-1e-9, 1 + 1e-9), ", at least 0 and at most 1"),
        (Range(above=0, below=180), (179.9,), (0, 180, -float("inf")), " above 0 and below 180"),
        (Range(), (0, -1e300), (float("nan"), -float("inf")), " "),
    ],
)
def test_bounds(bounds, inside, outside, text):
    assert all(bounds.holds(value) for value in inside)
    assert not any(bounds.holds(value) for value in outside)
    assert bounds.text == text


def test_the_aliases_are_known_by_their_names():
    assert ALIASES["PositiveInt"] == ("int", Range(low=1))
    assert ALIASES["FractionBelowOne"] == ("float", Range(low=0, below=1))


class Inner(TypedDict):
    share: Fraction
    more: NotRequired[PositiveInt]


class Thing(Ranged):
    config_key = "thing"

    def __init__(
        self,
        count: PositiveInt,
        *,
        lr: PositiveFloat | None = None,
        inner: Inner | None = None,
        steps: list[NonNegativeInt] | None = None,
        named: dict[str, FieldOfView] | None = None,
        plain: float = 0.0,
        few: Annotated[int, Range(low=2, high=4)] = 2,
        flag: bool = False,
    ) -> None:
        self.count = count


class Child(Thing):
    def __init__(self, *, ema: FractionBelowOne) -> None:
        super().__init__(1)


def test_what_lies_inside_is_built():
    inner: Inner = {"share": 1, "more": 1}
    assert Thing(3, lr=1e-3, inner=inner, steps=[0, 5], named={"a": 90}, plain=-7, few=4, flag=False).count == 3
    assert Child(ema=0.999).count == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"count": 0}, "thing.count is 0, should be a number, at least 1"),
        ({"lr": float("nan")}, "thing.lr is nan, should be a number above 0"),
        ({"inner": {"share": 1.5}}, "thing.inner.share is 1.5, should be a number, at least 0 and at most 1"),
        ({"inner": {"share": 0, "more": 0}}, "thing.inner.more is 0, should be a number, at least 1"),
        ({"steps": [1, -1]}, "thing.steps.1 is -1, should be a number, at least 0"),
        ({"named": {"a": 180}}, "thing.named.a is 180, should be a number above 0 and below 180"),
        ({"plain": float("inf")}, "thing.plain is inf, should be a finite number"),
        ({"few": 5}, "thing.few is 5, should be a number, at least 2 and at most 4"),
    ],
)
def test_what_lies_outside_is_refused(given, said):
    with pytest.raises(ValueError, match=r"thing\.") as error:
        Thing(**{"count": 1} | given)
    assert str(error.value) == said


def test_a_child_and_all_errors():
    with pytest.raises(ValueError, match=r"thing\.ema is 1\.0"):
        Child(ema=1.0)
    with pytest.raises(ValueError, match=r"thing\.count is 0.*; thing\.few is 1"):
        Thing(0, few=1)
