"""Overrides of the command line: parsed once, and the runs that swept values stand for."""

from collections.abc import Iterator
from functools import cache
from itertools import product

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException, OverrideParseException

from common.errors import UserError


def parse(overrides: list[str]) -> list[Override]:
    """Parse overrides.

    Raises:
        UserError: naming each that Hydra cannot read.
    """
    parsed, wrong = [], []
    for override in overrides:
        try:
            parsed.append(_parse_one(override))
        except (OverrideParseException, HydraException):
            wrong.append(
                f"command line: cannot read {override!r}: write key=value (quote it if it holds commas or spaces)"
            )
    if wrong:
        raise UserError(*wrong)
    return parsed


@cache
def _parse_one(override: str) -> Override:
    return OverridesParser.create().parse_overrides([override])[0]


def values_of(override: Override) -> list[str]:
    """Return the values that a swept key takes; of an interval, which a sweeper searches, its ends."""
    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        return [str(sweep.start), str(sweep.end)]
    return list(override.sweep_string_iterator())


def variants(overrides: list[Override]) -> Iterator[list[str]]:
    """Yield the override lists that cover every value of every swept key once (not every combination)."""
    swept = {i: values_of(o) for i, o in enumerate(overrides) if o.is_sweep_override()}

    def line(chosen: dict[int, str]) -> list[str]:
        return [
            f"{overrides[i].get_key_element()}={chosen[i]}" if i in swept else (overrides[i].input_line or "")
            for i in range(len(overrides))
        ]

    first = {i: values[0] for i, values in swept.items()}
    yield line(first)
    for i, values in swept.items():
        for value in values[1:]:
            yield line(first | {i: value})


def cells(overrides: list[str]) -> Iterator[list[str]]:
    """Yield the overrides of every combination of the swept values, as Hydra's sweeper makes them."""
    choices = []
    for override in parse(overrides):
        if override.is_sweep_override():
            choices.append([f"{override.get_key_element()}={v}" for v in override.sweep_string_iterator()])
        else:
            choices.append([override.input_line or ""])
    yield from (list(cell) for cell in product(*choices))
