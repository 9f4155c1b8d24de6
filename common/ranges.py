"""Ranges of numbers, written once as annotations: constructors refuse what lies outside, and so does the static check.

A parameter or a field of a `TypedDict` says `lr: PositiveFloat` or `fov: Annotated[float, Range(above=0, below=180)]`.
The check of a config reads that from the source text; a class that derives from `Ranged` holds to it when it is built
in Python. A number without a range has to be finite.
"""

import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import cache, wraps
from inspect import signature
from typing import Annotated, Any, ClassVar, NamedTuple


class Range(NamedTuple):
    """What a number may be: `low` and `high` belong to the range, `above` and `below` do not; None is no bound."""

    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None

    def holds(self, value: float) -> bool:
        """Return whether a number is finite and lies in the range."""
        return is_finite(value) and not (
            (self.low is not None and value < self.low)
            or (self.high is not None and value > self.high)
            or (self.above is not None and value <= self.above)
            or (self.below is not None and value >= self.below)
        )

    @property
    def text(self) -> str:
        """The range in words that go behind `a number`, as ` above 0 and at most 1`."""
        words = {"at least": self.low, "above": self.above, "at most": self.high, "below": self.below}
        text = " and ".join(f"{word} {bound:g}" for word, bound in words.items() if bound is not None)
        return f", {text}" if text.startswith("at") else f" {text}"


PositiveInt = Annotated[int, Range(low=1)]
NonNegativeInt = Annotated[int, Range(low=0)]
PositiveFloat = Annotated[float, Range(above=0)]
NonNegativeFloat = Annotated[float, Range(low=0)]
# Shares; the second leaves nothing out, the third is a rate of what stays, as dropout and momentum are.
Fraction = Annotated[float, Range(low=0, high=1)]
PositiveFraction = Annotated[float, Range(above=0, high=1)]
FractionBelowOne = Annotated[float, Range(low=0, below=1)]
FieldOfView = Annotated[float, Range(above=0, below=180)]

# By name: the type and the range of each alias above.
ALIASES: dict[str, tuple[str, Range]] = {
    name: (value.__origin__.__name__, value.__metadata__[0])
    for name, value in list(globals().items())
    if typing.get_origin(value) is Annotated
}


def is_finite(value: float) -> bool:
    """Return whether a number is neither nan nor infinite; whole numbers of any size are finite."""
    return not isinstance(value, float) or math.isfinite(value)


class Ranged:
    """Base of classes whose constructors refuse numbers outside the ranges that their annotations name.

    `config_key` is where the arguments stand in a config, for the message.
    """

    config_key: ClassVar[str]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            setattr(cls, "__init__", _checked(vars(cls)["__init__"]))  # noqa: B010 - a method is no plain attribute


def _checked(constructor: Callable[..., None]) -> Callable[..., None]:
    parameters = signature(constructor)

    @wraps(constructor)
    def built(self: Any, *args: Any, **kwargs: Any) -> None:
        given = parameters.bind_partial(self, *args, **kwargs).arguments
        hints = _hints(constructor)
        wrong = [
            line
            for name, value in given.items()
            for line in _outside(value, hints.get(name), f"{self.config_key}.{name}")
        ]
        if wrong:
            raise ValueError("; ".join(wrong))
        constructor(self, *args, **kwargs)

    return built


@cache
def _hints(annotated: Any) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(annotated, include_extras=True)
    except NameError:
        # A name that only a type checker imports.
        return {}


def _outside(value: Any, hint: Any, path: str) -> Iterator[str]:
    """Yield a line for every number in a value that its annotation does not allow."""
    members = _members(hint)
    if isinstance(value, int | float) and not isinstance(value, bool):
        ranges = [found for part in members for found in getattr(part, "__metadata__", ()) if isinstance(found, Range)]
        if not (ranges or [Range()])[0].holds(value):
            yield f"{path} is {value}, should be a {f'number{ranges[0].text}' if ranges else 'finite number'}"
    elif isinstance(value, Mapping | list | tuple):
        fields: Mapping[Any, Any] = next((_hints(part) for part in members if typing.is_typeddict(part)), {})
        inner = next((typing.get_args(part)[-1] for part in members if typing.get_args(part)), None)
        for name, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _outside(item, fields.get(name, inner), f"{path}.{name}")


def _members(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the annotation alone, without what says that a field may be left out."""
    if typing.get_origin(hint) in (typing.NotRequired, typing.Required):
        return _members(typing.get_args(hint)[0])
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
